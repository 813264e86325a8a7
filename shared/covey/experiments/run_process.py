"""One run of a sweep as processes: `covey train` until the run is complete, then `covey evaluate --keep`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Any

from covey.errors import StorageError
from covey.experiments.claims import Claim
from covey.experiments.sweep_directory import COMBINATION
from covey.resources import usable_cores
from covey.run.directory import RunDirectory
from covey.run.files import cannot_write, read_json

LOG = "train.log"
"""What the processes of a run say, in its directory."""

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that bound the threads in which torch and numpy compute."""


class State(Enum):
    """How a run of a sweep stands."""

    WAITING = "waiting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"
    ELSEWHERE = "elsewhere"


def is_trained(run: Path) -> bool:
    """Whether a run is complete."""
    with contextlib.suppress(StorageError, KeyError, TypeError):
        return bool(read_json(RunDirectory(run).result)["state"] == "complete")
    return False


def is_evaluated(run: Path, episodes: int | None = None) -> bool:
    """Whether a run's policies were evaluated after it was trained, on so many episodes if their number is given."""
    directory = RunDirectory(run)
    with contextlib.suppress(StorageError, KeyError, TypeError):
        kept, result = read_json(directory.evaluations), read_json(directory.result)
        return bool(kept["env_steps"] == result["env_steps"] and episodes in (None, kept["episodes"]))
    return False


def child_environment(jobs: int) -> dict[str, str]:
    """Variables of a run's processes: as many threads as cores, divided by the runs that are trained at a time."""
    share = max(1, usable_cores() // jobs)
    bounds = {}
    for name in THREADS:
        given = os.environ.get(name, "")
        bounds[name] = str(min(share, int(given)) if given.isdecimal() and int(given) else share)
    return os.environ | bounds


class RunProcess:
    """The process that works on a run which this one has claimed.

    Args:
        path: The run's directory, ready for `covey train --resume`.
        claim: The claim of the run; the process inherits it.
        jobs: How many runs are trained at a time.
        episodes: How many episodes evaluate the run.

    Attributes:
        state: How the run stands.
        exit_code: Of the process that failed; 0 where none did.
    """

    def __init__(self, path: Path, claim: Claim, jobs: int, episodes: int) -> None:
        self.path = path
        self.state = State.WAITING
        self.exit_code = 0
        self._claim = claim
        self._environment = child_environment(jobs)
        self._episodes = episodes
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = time.monotonic()
        self._next()

    def poll(self) -> bool:
        """Look whether the process has ended, and start what comes next; returns whether the run is done with."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            return False
        self._process = None
        if self._stopped:
            ended = is_trained(self.path) and is_evaluated(self.path, self._episodes)
            self.state = State.COMPLETE if ended else State.STOPPED
        elif code == 0 and is_trained(self.path):
            self._next()
        elif code == 0:  # `covey stop` ended it
            self.state = State.STOPPED
        else:
            self.state, self.exit_code = State.FAILED, code if code > 0 else 128 - code
        if self._process is None:
            self._claim.release()
        return self._process is None

    def stop(self, number: int) -> None:
        """Send a signal: the first one asks for an end with a checkpoint, a second one ends the process at once."""
        self._stopped = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """End the process and what it has started, at once."""
        self._stopped = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def seconds(self) -> float:
        """How long this sweep has worked on the run."""
        return time.monotonic() - self._began_s

    def status(self) -> dict[str, Any]:
        """The run's newest status file; empty before there is one."""
        with contextlib.suppress(StorageError):
            status = read_json(RunDirectory(self.path).status)
            return status if isinstance(status, dict) else {}
        return {}

    def last_words(self) -> str:
        """The last line that a process of the run has said."""
        try:
            with (self.path / LOG).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1].removeprefix("covey: error: ") if lines else "no word"

    def _next(self) -> None:
        """Start the process that the run needs next; none if it is complete and evaluated."""
        if not is_trained(self.path):
            self.state = State.TRAINING
            self._start("train", "--resume", str(self.path))
        elif not is_evaluated(self.path, self._episodes):
            self.state = State.EVALUATING
            # Each seed has episodes of its own: what is easy or hard in them is then no error that all runs share.
            seed = read_json(self.path / COMBINATION)["seed"]
            self._start("evaluate", str(self.path), "--keep", f"--episodes={self._episodes}", f"--seed={seed}")
        else:
            self.state = State.COMPLETE

    def _start(self, *arguments: str) -> None:
        """Start a command in a process group of its own, so that a terminal's Ctrl-C reaches the sweep alone.

        Raises:
            StorageError: its log cannot be written.
        """
        log = self.path / LOG
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "covey", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    process_group=0,
                    pass_fds=[self._claim.fd],
                )
        except OSError as exc:
            raise cannot_write(log, exc) from exc
