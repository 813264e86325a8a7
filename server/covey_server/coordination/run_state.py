"""The run's state: what it is at, which states may follow which, and what ended it."""

from __future__ import annotations

from enum import StrEnum

from covey.errors import CoveyError


class RunState(StrEnum):
    """What a run is at; the values are what status says."""

    WAITING = "waiting for the first actor"
    TRAINING = "training"
    PAUSED = "paused"
    STOPPING = "stopping"  # asked to end: the update in work and the last checkpoint are still to come
    STOPPED = "stopped"
    FAILED = "failed"
    COMPLETE = "complete"


_NEXT: dict[RunState, frozenset[RunState]] = {
    RunState.WAITING: frozenset({RunState.TRAINING, RunState.STOPPING, RunState.FAILED}),
    RunState.TRAINING: frozenset({RunState.PAUSED, RunState.STOPPING, RunState.FAILED, RunState.COMPLETE}),
    RunState.PAUSED: frozenset({RunState.TRAINING, RunState.STOPPING, RunState.FAILED, RunState.COMPLETE}),
    RunState.STOPPING: frozenset({RunState.STOPPED, RunState.FAILED, RunState.COMPLETE}),
    # The last checkpoint is written after a run is complete, and may fail.
    RunState.COMPLETE: frozenset({RunState.FAILED}),
    RunState.STOPPED: frozenset(),
    RunState.FAILED: frozenset(),
}

ENDED = frozenset({RunState.STOPPED, RunState.FAILED, RunState.COMPLETE})
"""States in which nothing follows any more."""

CLOSED = ENDED | {RunState.STOPPING}
"""States in which no actor is let in."""


class ThreadEnded(CoveyError):
    """A thread or task that the run lives by has ended; the run cannot go on without it."""


class RunProgress:
    """Holds the run's state and the fault that ended it. Not locked: `Learner` changes it under its lock.

    Attributes:
        fault: What ended the run; None: nothing has.
    """

    def __init__(self) -> None:
        self._state = RunState.WAITING
        self.fault: Exception | None = None

    @property
    def state(self) -> RunState:
        """What the run is at."""
        return self._state

    def become(self, state: RunState) -> None:
        """Enter a state; entering the present one again changes nothing.

        Raises:
            RuntimeError: that state cannot follow the present one.
        """
        if state is self._state:
            return
        if state not in _NEXT[self._state]:
            raise RuntimeError(f"run: cannot become {state.value!r} while {self._state.value!r}")
        self._state = state

    def may_become(self, state: RunState) -> bool:
        """Whether that state may follow the present one."""
        return state in _NEXT[self._state]

    def fail(self, exc: BaseException, where: str = "") -> None:
        """Note what the run cannot go on after; of several faults the first one counts.

        Args:
            exc: The fault.
            where: The thread or task that it ended, if it did.
        """
        if self.fault is None:
            self.fault = exc if isinstance(exc, Exception) else _ended_by(exc, where)
        if self.may_become(RunState.FAILED):
            self._state = RunState.FAILED


def _ended_by(exc: BaseException, where: str) -> ThreadEnded:
    """An exit or interrupt inside a thread, as an error: raised as itself it would end the process without a word."""
    fault = ThreadEnded(f"{where or 'a thread'}: ended by {type(exc).__name__} {exc}; the run goes on with --resume")
    fault.__cause__ = exc
    return fault
