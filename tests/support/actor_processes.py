"""Actor processes for tests, which are gone when their block is left."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

from tests.support.processes import PATIENCE_S, started

StartActor = Callable[..., subprocess.Popen[str]]
"""Starts an actor process with these arguments; `module` is what runs: `covey_actor`, or `covey` for the command."""


@contextlib.contextmanager
def actor_processes() -> Iterator[StartActor]:
    """Start actors that are killed, with all that they have started, when the block is left."""
    with contextlib.ExitStack() as processes:

        def start(*arguments: str, module: str = "covey_actor") -> subprocess.Popen[str]:
            command = [sys.executable, "-m", module, *(["actor"] if module == "covey" else []), *arguments]
            pipe = subprocess.PIPE
            return processes.enter_context(started(command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL))

        yield start


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end of a process; its exit code and stderr."""
    _, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, err
