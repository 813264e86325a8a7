"""A run's states: which may follow which, and what is kept of the fault that ended it."""

from __future__ import annotations

import pytest

from covey.errors import StorageError
from covey_server.coordination.run_state import ENDED, RunProgress, RunState, ThreadEnded

W, T, P, S = RunState.WAITING, RunState.TRAINING, RunState.PAUSED, RunState.STOPPING


def at(*path: RunState) -> RunProgress:
    progress = RunProgress()
    for state in path:
        progress.become(state)
    return progress


@pytest.mark.parametrize(
    "path",
    [
        (T, RunState.COMPLETE),
        (T, P, T, RunState.COMPLETE),
        (T, P, RunState.COMPLETE),
        (T, S, RunState.STOPPED),
        (S, RunState.STOPPED),
        (T, S, RunState.COMPLETE),
    ],
)
def test_ways_through_a_run(path: tuple[RunState, ...]) -> None:
    assert at(*path).state is path[-1]


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ((), P),
        ((), RunState.COMPLETE),
        ((T,), W),
        ((T,), RunState.STOPPED),
        ((T, S), T),
        ((T, S, RunState.STOPPED), T),
        ((T, RunState.COMPLETE), T),
        ((T, RunState.COMPLETE), S),
    ],
)
def test_no_other_way(path: tuple[RunState, ...], state: RunState) -> None:
    progress = at(*path)
    before = progress.state
    assert not progress.may_become(state)
    with pytest.raises(RuntimeError, match=f"cannot become '{state.value}' while '{before.value}'"):
        progress.become(state)
    assert progress.state is before


def test_the_first_fault_counts() -> None:
    progress = at(T)
    first = StorageError("disk is gone")
    progress.fail(first)
    progress.fail(StorageError("and the other one"))
    assert progress.state is RunState.FAILED and progress.fault is first


def test_a_fault_after_a_run_is_complete_fails_it() -> None:
    progress = at(T, RunState.COMPLETE)
    progress.fail(StorageError("the last checkpoint"))
    assert progress.state is RunState.FAILED


def test_an_exit_inside_a_thread_is_no_exit_of_the_process() -> None:
    progress = at(T)
    progress.fail(SystemExit(0), "journal")
    assert isinstance(progress.fault, ThreadEnded)
    assert str(progress.fault) == "journal was ended by SystemExit 0; the run goes on with --resume"


def test_nothing_follows_an_end_but_a_fault_after_a_complete_run() -> None:
    for state in ENDED:
        followers = [s for s in RunState if at_state(state).may_become(s)]
        assert followers == ([RunState.FAILED] if state is RunState.COMPLETE else [])


def at_state(state: RunState) -> RunProgress:
    if state is RunState.FAILED:
        progress = at(T)
        progress.fail(StorageError("x"))
        return progress
    return at(T, state) if state is RunState.COMPLETE else at(T, S, state)
