"""`covey train --detach`: the run goes on in a process of its own, whatever becomes of the terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from covey.cli.terminal import say
from covey.errors import StorageError
from covey.run.directory import RunDirectory
from covey.run.files import cannot_write

BEGUN_S = 60.0
"""How long to wait until the learner of the new process listens, seconds."""


def start_detached(run: RunDirectory, arguments: Sequence[str]) -> None:
    """Start `covey train` for a run in a session of its own, wait until its learner listens, and say what comes next.

    Args:
        run: The run; its directory holds its configuration, and gets what the process says as `train.log`.
        arguments: Further arguments of the command.

    Raises:
        StorageError: the log cannot be written, or the process ended before its learner listened.
    """
    log = run.path / "train.log"
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "covey", "train", "--resume", str(run.path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as exc:
        raise cannot_write(log, exc) from exc
    begun = time.monotonic()
    while not run.address.exists() and time.monotonic() - begun < BEGUN_S:
        code = process.poll()
        if code == 0:
            break  # a short run, which is complete already
        if code is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise StorageError(f"run {run.path} ended at once with code {code}: {lines[-1] if lines else 'no word'}")
        time.sleep(0.1)
    say(f"covey: training in the background as process {process.pid}; it says what it does in {log}; next:", error=True)
    say(f"  covey watch {run.path}", error=True)
    say(f"  kill {process.pid}  # stops it with a checkpoint", error=True)
