"""Starts actor processes, each an interpreter of its own; this module imports nothing heavy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from types import MappingProxyType

from covey.cli.terminal import say

LIMITS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc gives every thread that allocates a heap of its own, and gRPC has many.
    "MALLOC_ARENA_MAX": "2",
}
"""Environment variables that limit an actor's threads and memory: its matrices are small, and others need the cores."""


FIRST_PAUSE_S = 1.0
"""Pause before a killed actor process is started again, seconds; it doubles while they are killed soon."""

LONGEST_PAUSE_S = 60.0
"""Longest such pause, seconds."""

STEADY_S = 60.0
"""After so many seconds of life, a process that is killed counts as the first."""

LOOK_S = 0.1
"""Seconds between two looks at the processes."""

NO_FILES: Mapping[str, Path | None] = MappingProxyType({})


def limit_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """Limit numerical libraries that are imported later to one thread; variables that the user set stay."""
    for name, value in LIMITS.items():
        environ.setdefault(name, value)


def actor_arguments(
    learner: str,
    *,
    name: str | None = None,
    env: str | None = None,
    allow_env: Sequence[str] = (),
    ops: str = "numpy",
    allow_module: Sequence[str] = (),
    env_path: Sequence[Path] = (),
    max_reconnect_s: float | None = None,
    quiet: bool = False,
    files: Mapping[str, Path | None] = NO_FILES,
) -> list[str]:
    """Return the command line that starts one actor process with these options.

    Args:
        learner: HOST:PORT.
        name: The actor's name; None: one of host and process id.
        env: Entry point of the environment to run, whatever the learner says.
        allow_env: Patterns of environments to accept besides the default ones.
        ops: "torch" to load it for modules of networks that are allowed, else "numpy".
        allow_module: Patterns of functions that may make modules of networks.
        env_path: Folders in which environments and modules are searched besides those of installed packages.
        max_reconnect_s: Seconds of the learner's silence after which to give up; None: never.
        quiet: Whether to print only what goes wrong.
        files: Files of its credentials, by flag.
    """
    command = [sys.executable, "-m", "covey_actor", "--learner", learner]
    options = {"--name": name, "--env": env, "--max-reconnect-s": max_reconnect_s, **files}
    for flag, value in options.items():
        if value is not None:
            command += [flag, str(value)]
    if quiet:
        command.append("--quiet")
    for pattern in allow_env:
        command += ["--allow-env", pattern]
    if ops != "numpy":
        command += ["--ops", ops]
    for pattern in allow_module:
        command += ["--allow-module", pattern]
    for folder in env_path:
        command += ["--env-path", str(folder)]
    return command


def start_worker(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start an actor process that leaves when this process ends, as its stdin is a pipe from here.

    It has a process group of its own, so that Ctrl-C in a terminal reaches it once, through its parent.
    """
    environ = dict(os.environ)
    limit_threads(environ)
    return subprocess.Popen(
        [*command, "--stop-on-stdin-eof"], stdin=subprocess.PIPE, env=environ, start_new_session=True
    )


class _Worker:
    """One actor process, and the next one in its place if it is killed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._pause_s = FIRST_PAUSE_S
        self._restart_at: float | None = None
        self._start()

    def _start(self) -> None:
        self.process = start_worker(self._command)
        self._started_at = time.monotonic()

    def send_signal(self, number: int) -> None:
        """Pass a signal on; a process that has ended gets none."""
        self.process.send_signal(number)

    def look(self, *, leaving: bool) -> int | None:
        """Start the process again some time after it was killed; returns the exit code once it has ended for good.

        Args:
            leaving: Whether all workers are to end, so that none is started again.
        """
        code = self.process.poll()
        if code is None:
            return None
        if code >= 0 or leaving:
            return 128 - code if code < 0 else code
        now = time.monotonic()
        if self._restart_at is None:
            if now - self._started_at > STEADY_S:
                self._pause_s = FIRST_PAUSE_S
            self._restart_at, self._pause_s = now + self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
            name = self._command[self._command.index("--name") + 1] if "--name" in self._command else "an actor"
            pause_s = self._restart_at - now
            say(f"covey actor: {name} was ended by signal {-code}; another in {pause_s:g} s", error=True)
        elif now >= self._restart_at:
            self._restart_at = None
            self.close()
            self._start()
        return None

    def close(self) -> None:
        """Close the pipe to the process, which then leaves if it still runs."""
        if self.process.stdin is not None:
            self.process.stdin.close()


def run_workers(commands: Sequence[Sequence[str]]) -> int:
    """Run actor processes until all have ended for good, passing SIGTERM and SIGINT on to them.

    One that a signal has killed is started again, after a pause that grows while that happens again and again.

    Returns:
        The highest exit code of a worker; 128 + the signal's number for one that a signal ended as all were to end.
    """
    workers: list[_Worker] = []
    leaving = False

    def forward(number: int, _: object) -> None:
        nonlocal leaving
        leaving = True
        for worker in workers:
            worker.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for command in commands:
            workers.append(_Worker(command))  # noqa: PERF401 - a signal must find those that were started
        codes: list[int | None] = [None] * len(workers)
        while None in codes:
            codes = [
                code if code is not None else w.look(leaving=leaving) for code, w in zip(codes, workers, strict=True)
            ]
            time.sleep(LOOK_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for worker in workers:
            worker.close()
    return max(code for code in codes if code is not None)
