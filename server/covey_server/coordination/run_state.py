"""The run's state machine: the states, which of them may follow which, and the fault that ended the run."""

from __future__ import annotations

from enum import StrEnum

from covey.errors import CoveyError


class RunState(StrEnum):
    """The states of a run; the values are the texts that `covey status` and the wire show."""

    WAITING = "waiting for the first actor"
    TRAINING = "training"
    PAUSED = "paused"
    STOPPING = "stopping"  # a stop was requested: the current update and the last checkpoint are still finished
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
"""The states that may follow each state."""

ENDED = frozenset({RunState.STOPPED, RunState.FAILED, RunState.COMPLETE})
"""The states that no training follows: nothing runs any more."""

CLOSED = ENDED | {RunState.STOPPING}
"""The states in which no actor may join."""


class ThreadEnded(CoveyError):
    """A thread or task that the run depends on has ended, so the run cannot go on."""


class RunProgress:
    """The run's present state and the fault that ended it. It takes no lock itself: `Learner` changes it under its own.

    Attributes:
        fault: The error that ended the run; None while the run has had none.
    """

    def __init__(self) -> None:
        self._state = RunState.WAITING
        self.fault: Exception | None = None

    @property
    def state(self) -> RunState:
        """The run's present state."""
        return self._state

    def become(self, state: RunState) -> None:
        """Enter a state; entering the present state again changes nothing.

        Raises:
            RuntimeError: that state may not follow the present one.
        """
        if state is self._state:
            return
        if state not in _NEXT[self._state]:
            raise RuntimeError(f"the run cannot become {state.value!r} while {self._state.value!r}")
        self._state = state

    def may_become(self, state: RunState) -> bool:
        """Whether the run may enter that state now."""
        return state in _NEXT[self._state]

    def fail(self, exc: BaseException, where: str = "") -> None:
        """Record an error that the run cannot survive; of several errors the first one is kept.

        Args:
            exc: The error.
            where: Name of the thread or task that the error ended; empty if it ended none.
        """
        if self.fault is None:
            self.fault = exc if isinstance(exc, Exception) else _ended_by(exc, where)
        if self.may_become(RunState.FAILED):
            self._state = RunState.FAILED


def _ended_by(exc: BaseException, where: str) -> ThreadEnded:
    """Wrap an exit or interrupt raised inside a thread in an error; unwrapped, it would end the process silently."""
    fault = ThreadEnded(f"{where or 'a thread'} was ended by {type(exc).__name__} {exc}; the run goes on with --resume")
    fault.__cause__ = exc
    return fault
