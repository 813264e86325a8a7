"""The actor processes that `covey train` starts on its own machine, before it imports torch itself.

Importing torch takes a learner seconds, in which its actors import what they need. An actor process so started reads
the learner's address, and its token, from the first line of its stdin; when stdin ends it leaves.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from covey.config import Config
from covey.config.architecture import modules_of
from covey.envs.own_modules import searched
from covey.errors import EnvironmentLoadError, RefusedError
from covey.wire.credentials import CA_VARIABLE, TOKEN_VARIABLE

logger = logging.getLogger("covey.learner")

LONGEST_LINE = 8192
"""Bytes of a line that an actor process prints; a longer one is passed on in parts."""


LONGEST_LEAVE_S = 30.0
"""Seconds after which an actor process that was told to leave, as fewer are wanted, is killed."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """An actor process that was told to leave, as fewer are wanted; `since_s` are monotonic seconds."""

    name: str
    process: subprocess.Popen[bytes]
    since_s: float


class LocalActors:
    """Starts actor processes that wait for the learner's address, until `attach` tells it to them.

    A process that dies is started again. If processes die repeatedly before the first env step, the run ends. Used in a
    `with` statement, at whose end all processes have ended, and at once those that no learner's address was told.

    Args:
        config: The run's configuration.
        count: Number of processes at first.
    """

    MAX_QUICK_DEATHS = 3
    """Number of deaths of actor processes, before the run's first env step, at which the run ends."""

    def __init__(self, config: Config, count: int) -> None:
        self._command = [
            # Quiet, as the learner says itself who joins and leaves.
            *(sys.executable, "-m", "covey_actor", "--learner-on-stdin", "--quiet"),
            *("--env", config.environment.name),
            *(argument for folder in searched() for argument in ("--env-path", str(folder))),
            *_module_arguments(config),
            # The learner of `covey train` never restarts at this port, so actors that lost it soon end.
            *("--max-reconnect-s", "20"),
        ]
        # An actor multiplies small matrices, which further threads only slow down; and glibc gives each thread that
        # allocates a heap of its own, of which it reads the limit before Python runs.
        limits = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._environment = {"MALLOC_ARENA_MAX": "2"} | os.environ | limits
        # Certificates and tokens in this process's environment are for other learners.
        self._environment |= {CA_VARIABLE: "", TOKEN_VARIABLE: ""}
        self._learner = b""  # the line that an actor reads; empty until the learner listens
        self._tell: Callable[[str], None] | None = None
        self._readers: list[threading.Thread] = []
        self._deaths = 0  # since the run came on last
        self._env_steps = 0  # at the last death
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._names = (f"local-{i}" for i in itertools.count())  # never used again: one that leaves may still be there
        self._least = count  # processes from this one on are extra: if they die, the run goes on without them
        self._leaving: list[Leaving] = []
        try:
            for _ in range(count):
                self._children.append(self._start(next(self._names)))
        except BaseException:
            self.stop(timeout_s=0.0)
            raise

    def __enter__(self) -> LocalActors:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(timeout_s=0.0)

    def attach(self, address: str, token: str | None, tell: Callable[[str], None]) -> None:
        """Let the actors join the learner, which listens now.

        Args:
            address: Its address, "HOST:PORT".
            token: Token that the processes show to the learner; None if it asks for none.
            tell: Called with each line that a process prints, from other threads.
        """
        self._learner = f"{address} {token or ''}\n".encode()
        self._tell = tell
        for name, child in self._children:
            self._introduce(name, child)

    def _start(self, name: str) -> tuple[str, subprocess.Popen[bytes]]:
        """Start one actor process under this name."""
        # In a process group of its own, so that Ctrl-C reaches the learner alone, which then ends its actors in order.
        child = subprocess.Popen(
            [*self._command, "--name", name],
            env=self._environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            # Not to the terminal itself, where it would be written into the progress bar; nor to the result on stdout.
            # Until there is somebody to tell it stays in the pipe: of a start that is refused nobody wants to read it.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return name, child

    def _introduce(self, name: str, child: subprocess.Popen[bytes]) -> None:
        """Tell one actor process where the learner is, and pass on from now on what it prints."""
        assert child.stdin is not None
        with suppress(BrokenPipeError):  # it has died already, as `check` finds
            child.stdin.write(self._learner)
            child.stdin.flush()
        reader = threading.Thread(target=self._pass_on, args=(name, child), name=f"output of {name}", daemon=True)
        reader.start()
        self._readers = [*(r for r in self._readers if r.is_alive()), reader]

    def _pass_on(self, name: str, child: subprocess.Popen[bytes]) -> None:
        """Pass on each line that an actor process prints, until it has closed its output."""
        assert child.stdout is not None and self._tell is not None
        with child.stdout as output:
            while line := output.readline(LONGEST_LINE):
                # Whatever happens it is read on: an environment that prints would wait at a pipe that is full.
                with suppress(Exception):
                    text = line.decode(errors="replace").rstrip()
                    self._tell(text if name in text else f"{name}: {text}")

    @property
    def running(self) -> int:
        """Number of actor processes that are to be there."""
        return len(self._children)

    def check(self, env_steps: int) -> None:
        """Start again the actor processes that died, and forget those that have left.

        Args:
            env_steps: Env steps that the run has made so far.

        Raises:
            EnvironmentLoadError: an actor could not create the environment; starting it again would not help.
            RefusedError: processes died several times without an env step in between.
        """
        self._look_after_leaving()
        # 0: it has ended in order, because somebody told it to, or the run is over.
        for name, child in [(name, child) for name, child in self._children if child.poll() == 0]:
            _close_stdin(child)
            self._children.remove((name, child))
        for i, (name, child) in enumerate(list(self._children)):
            code = child.poll()
            if code is None:
                continue
            if i >= self._least:
                logger.warning("local actor %s ended with code %d; the run goes on with %d", name, code, i)
                _close_stdin(child)
                self._children.remove((name, child))
                return
            self._deaths = 1 if env_steps > self._env_steps else self._deaths + 1
            self._env_steps = env_steps
            if code == EnvironmentLoadError.exit_code:
                raise EnvironmentLoadError(f"actor {name} cannot use the environment; its output above says why")
            if self._deaths >= self.MAX_QUICK_DEATHS:
                raise RefusedError(
                    f"actor {name} ended with code {code}, as local actors did {self._deaths} times without an env "
                    "step in between; their output above says why"
                )
            logger.warning("local actor %s ended with code %d; starting another", name, code)
            _close_stdin(child)
            self._children[i] = self._start(name)
            self._introduce(*self._children[i])

    def keep(self, count: int) -> None:
        """Start further actor processes, or tell the newest to leave, until there are `count`, at least 1."""
        while len(self._children) < count:
            self._children.append(self._start(next(self._names)))
            self._introduce(*self._children[-1])
        while len(self._children) > max(1, count):
            name, child = self._children.pop()
            child.terminate()  # it hands in what it has, and ends
            self._leaving.append(Leaving(name, child, time.monotonic()))

    def _look_after_leaving(self) -> None:
        """Forget the processes that have left as they were told, and kill one that does not."""
        for leaving in list(self._leaving):
            code = leaving.process.poll()
            if code is not None:
                if code not in (0, -signal.SIGTERM):
                    logger.warning("local actor %s left with code %d", leaving.name, code)
                _close_stdin(leaving.process)
                self._leaving.remove(leaving)
            elif time.monotonic() - leaving.since_s > LONGEST_LEAVE_S:
                leaving.process.kill()

    def terminate(self) -> None:
        """Tell all actor processes to leave, and wait for none of them."""
        for _, child in [*self._children, *((leaving.name, leaving.process) for leaving in self._leaving)]:
            child.terminate()

    def stop(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` seconds for each actor process to end by itself; then terminate or kill it."""
        # All are asked to end before any is waited for again, so that a hanging one does not hold up the others.
        everyone = [*self._children, *((leaving.name, leaving.process) for leaving in self._leaving)]
        for _, child in everyone:
            try:
                child.wait(timeout=timeout_s if self._learner else 0.0)
            except subprocess.TimeoutExpired:
                child.terminate()
        for _, child in everyone:
            try:
                child.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            _close_stdin(child)
        for reader in self._readers:
            reader.join(timeout=1.0)  # what an actor said in the end is told before the run's error
        for _, child in everyone:
            if not self._learner and child.stdout is not None:
                child.stdout.close()


def _module_arguments(config: Config) -> list[str]:
    """Return the arguments that let an actor compute the networks of one's own that the configuration names."""
    modules = modules_of(config.network)
    allowed = [argument for module in modules for argument in ("--allow-module", module)]
    return ["--ops", "torch", *allowed] if modules else []


def _close_stdin(child: subprocess.Popen[bytes]) -> None:
    """Close the pipe to a process, which leaves then if it still runs."""
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.close()
