"""Steps copies of an environment in worker processes, into arrays that all of them share.

Each worker is a fresh interpreter that owns a contiguous range of slots and steps them by `SyncSlots`. Observations,
rewards and actions lie in one piece of anonymous memory; a pipe per worker carries commands, slot numbers and faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from gymnasium.vector.utils import CloudpickleWrapper
from numpy.typing import NDArray

from covey.envs.loading import MakeEnv
from covey.envs.slots import Fault, describe
from covey.envs.worker import BOOTSTRAP, Answer, Assignment, Command, map_memory, memory_bytes
from covey.errors import EnvironmentLoadError
from covey.spaces import EnvironmentSpaces

TIMEOUT_S = 60.0
"""Seconds that a worker may take for one command before it counts as hanging."""

START_S = 60.0
"""Seconds that a worker may take longer for its first command, which waits for its interpreter and its imports."""

CLOSE_S = 5.0
"""Seconds that environments have to close before their worker is killed."""

_ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
}


class AsyncSlots:
    """Copies of an environment ("slots"), stepped in worker processes at the same time; needs a POSIX system.

    A worker that ends, or gives no answer in time, is started again. The slots that it was stepping or resetting are
    faults, and their arrays zeros; its other slots keep their arrays, and are faults when they are stepped next.

    Args:
        make_env: Builds a parallel environment in a worker: one function for all slots, or one for each. Lambdas and
            functions of a script will do: the caller's own function is pickled to the caller's own child process, over
            a pipe that it inherits. Nothing from a network or a file is unpickled.
        spaces: Spaces of the environments.
        count: Number of environments, S.
        workers: Number of processes; if None, as many as there are cores, at most S.
        timeout_s: Seconds that one command may take.

    Raises:
        EnvironmentLoadError: `make_env` cannot be sent to another process; in `reset` and `step` as `SyncSlots`.
    """

    def __init__(
        self,
        make_env: MakeEnv | Sequence[MakeEnv],
        spaces: EnvironmentSpaces,
        count: int,
        workers: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.count = count
        self._timeout_s = timeout_s
        factories = [make_env] * count if callable(make_env) else list(make_env)
        processes = min(workers or _cores(), count)
        memory = _shared_memory(memory_bytes(spaces, count))
        self.arrays, self._actions = map_memory(memory, spaces, count)
        # Slots are divided as evenly as possible, each worker's being consecutive.
        bounds = [count * i // processes for i in range(processes + 1)]
        self._workers = [
            _Worker(i, Assignment(spaces, count, first, end), factories[first:end], memory)
            for i, (first, end) in enumerate(pairwise(bounds))
        ]
        self._owner = [worker for worker in self._workers for _ in range(worker.first, worker.end)]
        self._lost: dict[int, str] = {}  # slots that lost their episode with a worker, and what happened to the worker
        self._pending: dict[_Worker, Sequence[int]] = {}
        self._begun: list[Fault] = []
        self._applied_to: Sequence[int] = ()
        # Not a method: it also runs when the slots are collected as garbage, and when the interpreter ends.
        self._finalizer = weakref.finalize(self, _end, self._workers, memory)
        for worker in self._workers:
            worker.start()

    def reset(self, slots: Sequence[int], seeds: Sequence[int], options: dict[str, Any] | None = None) -> list[Fault]:
        """Begin an episode in each slot given, with its seed; `options` go to the environments."""
        self.begin_reset(slots, seeds, options)
        return self.end_step()

    def begin_reset(self, slots: Sequence[int], seeds: Sequence[int], options: dict[str, Any] | None = None) -> None:
        """Let the workers begin a reset and return at once; `end_step` must follow."""
        for s in slots:
            self._lost.pop(s, None)
        by_slot = dict(zip(slots, seeds, strict=True))
        self._begun = []
        self._send("reset", slots, lambda own: ([by_slot[s] for s in own], options))

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step of each environment given, in all workers at once.

        Returns a report for each that raised.
        """
        self.begin_step(slots, actions)
        return self.end_step()

    def begin_step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> None:
        """Let the workers begin an env step and return at once; `end_step` must follow."""
        self._begun = [Fault(s, self._lost[s]) for s in slots if s in self._lost]
        for shared, given in zip(self._actions, actions, strict=True):
            shared[...] = given
        self._send("step", [s for s in slots if s not in self._lost] if self._begun else slots, lambda own: ())

    def end_step(self, timeout_s: float | None = None) -> list[Fault]:
        """Wait for the step that `begin_step` began, or the reset that `begin_reset` began.

        Args:
            timeout_s: Seconds to wait, in place of the slots' own limit.

        Returns:
            Faults as of `Slots.step`; slots of a worker that was not ready in time are among them.
        """
        return self._begun + self._faults(self._timeout_s if timeout_s is None else timeout_s)

    def apply(
        self, slots: Sequence[int], function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        """Call a function in the workers, once for each of these slots' environments.

        Args:
            slots: Distinct slots.
            function: Is called with the slot's environment and the slot's arguments.
            arguments: One tuple for each slot.

        Returns:
            For each slot what the function returned, or a `Fault` if it raised or the worker was lost.
        """
        self.begin_apply(slots, function, arguments)
        return self.end_apply()

    def begin_apply(
        self, slots: Sequence[int], function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
    ) -> None:
        """Let the workers begin what `apply` does and return at once; `end_apply` must follow."""
        by_slot = dict(zip(slots, arguments, strict=True))
        self._applied_to = slots
        self._send("apply", slots, lambda own: (CloudpickleWrapper((function, [by_slot[s] for s in own])),))  # type: ignore[arg-type]

    def end_apply(self, timeout_s: float | None = None) -> list[Any]:
        """Wait for what `begin_apply` began; returns what `apply` returns.

        Args:
            timeout_s: Seconds to wait, in place of the slots' own limit.
        """
        results: dict[int, Any] = {}
        for own, result in self._receive(self._timeout_s if timeout_s is None else timeout_s):
            results |= zip(own, result, strict=True)
        return [results[s] for s in self._applied_to]

    def close(self, limit_s: float = CLOSE_S) -> None:
        """Close all environments and end the workers, killed after `limit_s` seconds; the arrays stay readable."""
        if detached := self._finalizer.detach():
            workers, memory = detached[2]
            _end(workers, memory, limit_s)

    def _send(self, name: str, slots: Sequence[int], arguments: Callable[[list[int]], tuple[Any, ...]]) -> None:
        """Send a command to the workers of these environments.

        `arguments` returns those for a worker's share of them.
        """
        if not self._finalizer.alive:
            raise EnvironmentLoadError("the environments were closed; build them again to go on")
        own: dict[_Worker, list[int]] = {}
        for s in slots:
            own.setdefault(self._owner[s], []).append(s)
        self._pending = dict(own)
        for worker, chosen in own.items():
            worker.send(name, chosen, arguments(chosen))

    def _faults(self, timeout_s: float) -> list[Fault]:
        """Wait until all workers have made their reset or step; returns a report for each environment that raised."""
        return [fault for _, faults in self._receive(timeout_s) for fault in faults]

    def _receive(self, timeout_s: float) -> list[tuple[Sequence[int], list[Any]]]:
        """Wait for all workers' answers.

        Returns each one's environments and results, errors where a worker was lost.
        """
        began = time.monotonic()
        answers: list[tuple[Sequence[int], list[Any]]] = []
        refused = ""
        # Workers work at the same time, so waiting for one after the other takes as long as the slowest.
        for worker, slots in self._pending.items():
            limit_s = timeout_s if worker.has_answered else timeout_s + START_S
            try:
                answer = worker.receive(began + limit_s)
                refused = refused or answer.refused
                answers.append((slots, answer.result))
            except _WorkerLost as lost:
                message = f"{worker} {str(lost) or f'gave no answer for {limit_s:g} s'}"
                answers.append((slots, self._replace(worker, slots, message)))
        self._pending = {}
        if refused:
            raise EnvironmentLoadError(refused)
        return answers

    def _replace(self, worker: _Worker, slots: Sequence[int], message: str) -> list[Fault]:
        """Restart a worker that ended or hangs; returns an error report for each environment of its command."""
        worker.kill()
        self._lost |= dict.fromkeys(range(worker.first, worker.end), message)
        for s in slots:
            self.arrays.clear(s)
        worker.start()
        return [Fault(s, message) for s in slots]


class _WorkerLost(Exception):
    """Raised when a worker process ended, as the text says, or did not answer in time, if there is no text."""


class _Worker:
    """The parent's side of a worker process that steps environments; it can be started again.

    Args:
        index: Names the worker in errors.
        assigned: The slots that the worker steps.
        factories: Build their environments, one each.
        memory: File descriptor of the shared memory.
    """

    def __init__(self, index: int, assigned: Assignment, factories: Sequence[MakeEnv], memory: int) -> None:
        self.first, self.end = assigned.first, assigned.end
        self._index, self._assigned, self._factories, self._memory = index, assigned, factories, memory
        self._number = 0
        self.has_answered = False  # since it was started
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any]
        self._poll: select.poll

    def __str__(self) -> str:
        last = self.end - 1
        return f"worker {self._index} (slot{f's {self.first}-{last}' if last > self.first else f' {last}'})"

    def start(self) -> None:
        """Start the worker process, and send it the functions that build its environments."""
        self.has_answered = False
        self._connection, far = Pipe()
        path = json.dumps(sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOTSTRAP, path, str(far.fileno()), str(self._memory)],
            stdin=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
            pass_fds=(far.fileno(), self._memory),
        )
        far.close()
        self._poll = select.poll()
        self._poll.register(self._connection, select.POLLIN)
        try:
            with contextlib.suppress(ConnectionError):  # it ended already, which the first `receive` will notice
                self._connection.send(self._assigned)
                self._connection.send(CloudpickleWrapper(self._factories))  # type: ignore[arg-type]
        except Exception as exc:  # pickling may raise anything
            self.kill()
            raise EnvironmentLoadError(
                f"environment: its factory cannot be sent to a worker process: {describe(exc)}; build what it holds "
                "inside the function, or step the environments in one process (vectorisation sync)"
            ) from exc

    def send(self, name: str, slots: Sequence[int], arguments: tuple[Any, ...]) -> None:
        """Send the worker a command; its answer to an earlier one that nobody waited for will be skipped."""
        if self._process is None:
            return  # was never started, because another worker could not be
        self._number += 1
        with contextlib.suppress(ConnectionError):  # it ended, which `receive` will notice
            self._connection.send(Command(self._number, name, slots, arguments))

    def receive(self, deadline: float) -> Answer:
        """Wait for the worker's answer to the last command, until `deadline`, a `time.monotonic()`.

        Raises:
            _WorkerLost: the worker ended, or gave no answer in time.
        """
        while True:
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _WorkerLost
            try:
                answer: Answer = self._connection.recv()
            except (EOFError, ConnectionError):
                raise _WorkerLost(self._ended()) from None
            self.has_answered = True
            if answer.number == self._number:
                return answer

    def kill(self) -> None:
        """Kill the worker process, whatever it is doing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()  # type: ignore[union-attr]
            self._connection.close()

    def wait(self, deadline: float) -> None:
        """Wait for the end of a worker that was told to close, until `deadline`, a `time.monotonic()`."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, deadline - time.monotonic()))

    def _ended(self) -> str:
        """Say how a worker process ended, as the end of a sentence: with which signal or exit code."""
        code = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(CLOSE_S)
        if code is None:
            return "closed its connection"
        return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"


def _cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _shared_memory(size: int) -> int:
    """Create zeroed memory that worker processes can share; returns its file descriptor."""
    if sys.platform == "linux":
        memory = os.memfd_create("covey-slots")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    os.truncate(memory, size)
    return memory


def _end(workers: Sequence[_Worker], memory: int, limit_s: float = CLOSE_S) -> None:
    """Let all workers close their environments, kill those that take too long, and free the memory."""
    for worker in workers:
        worker.send("close", (), ())
    deadline = time.monotonic() + limit_s
    for worker in workers:
        worker.wait(deadline)
        worker.kill()
    os.close(memory)
