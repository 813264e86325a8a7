"""Commands that start nothing, run in the process of the test: a second less each than as a process of their own."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout

from covey.cli import run


def covey_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command such as `evaluate` or `export` to its end, as its own process would; what it wrote is kept."""
    words = [str(argument) for argument in arguments]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = run(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
