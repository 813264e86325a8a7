"""Starts actor processes, each an interpreter of its own; this module imports nothing heavy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from types import MappingProxyType

LIMITS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc gives every thread that allocates a heap of its own, and gRPC has many.
    "MALLOC_ARENA_MAX": "2",
}
"""Environment variables that limit an actor's threads and memory: its matrices are small, and others need the cores."""


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
    max_reconnect_s: float | None = None,
    files: Mapping[str, Path | None] = NO_FILES,
) -> list[str]:
    """Return the command line that starts one actor process with these options.

    Args:
        learner: HOST:PORT.
        name: The actor's name; None: one of host and process id.
        env: Entry point of the environment to run, whatever the learner says.
        allow_env: Patterns of environments to accept besides the default ones.
        max_reconnect_s: Seconds of the learner's silence after which to give up; None: never.
        files: Files of its credentials, by flag.
    """
    command = [sys.executable, "-m", "covey_actor", "--learner", learner]
    options = {"--name": name, "--env": env, "--max-reconnect-s": max_reconnect_s, **files}
    for flag, value in options.items():
        if value is not None:
            command += [flag, str(value)]
    for pattern in allow_env:
        command += ["--allow-env", pattern]
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


def run_workers(commands: Sequence[Sequence[str]]) -> int:
    """Run actor processes until all have ended, passing SIGTERM and SIGINT on to them. None is started again.

    Returns:
        The highest exit code of a worker; 128 + the signal's number for one that a signal ended.
    """
    workers: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: object) -> None:
        for worker in workers:
            worker.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for command in commands:
            workers.append(start_worker(command))  # noqa: PERF401 - a signal must find those that were started
        codes = [worker.wait() for worker in workers]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for worker in workers:
            if worker.stdin is not None:
                worker.stdin.close()
    return max(128 - code if code < 0 else code for code in codes)
