"""No run stops unseen: beside an honest actor steps go on, whatever others do; where nothing comes, it is said why."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.bad_actors import ANSWERS
from tests.support.scripted_play import ScriptedPlay
from tests.support.simulated_run import HEARTBEAT_S, SimulatedActor, SimulatedRun

from covey_server.coordination.run_state import RunState

STEP_TIMEOUT_S, FRAGMENT_STEPS = 1.0, 8
LONGEST_S = STEP_TIMEOUT_S * FRAGMENT_STEPS + 2 * HEARTBEAT_S
"""How long one actor may keep the others waiting: an order's time limit, or what it takes to notice its silence."""

SECTIONS: dict[str, dict[str, Any]] = {
    "training": {"max_steps": 10**6, "evo_steps": 100, "pop_size": 2, "confirm_episodes": 2},
    "environment": {"name": "mpe2.simple_speaker_listener_v4", "num_envs": 2, "config": {"continuous_actions": True}},
    "actors": {"step_timeout_s": STEP_TIMEOUT_S, "fragment_steps": FRAGMENT_STEPS},
    "algorithm": {"name": "MATD3", "learn_step": 50, "batch_size": 8},
}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[SimulatedRun]:
    run = SimulatedRun(tmp_path, **SECTIONS)
    yield run
    run.close()


def progress(run: SimulatedRun) -> tuple[int, int, int]:
    totals = run.learner.totals
    return totals.env_steps, totals.updates, totals.eval_env_steps


HONEST = ScriptedPlay.play
KINDS = st.tuples(
    st.sampled_from(["honest", *ANSWERS]),
    st.integers(1, 12),  # ticks for an order
    st.none() | st.integers(1, 30),  # ticks after which it is silent
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(kinds=st.lists(KINDS, max_size=3), first=st.integers(0, 3))
def test_steps_go_on_beside_any_mixture_of_actors(kinds: list[tuple[str, int, int | None]], first: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = SimulatedRun(Path(folder), **SECTIONS)
        try:
            for i, (kind, ticks, silent_after) in enumerate(kinds):
                answer = HONEST if kind == "honest" else ANSWERS[kind]
                run.actors.append(SimulatedActor(run, f"a{i}", answer, ticks, silent_after))
            run.actors.insert(min(first, len(kinds)), SimulatedActor(run, "honest", HONEST))
            before, since = progress(run), run.now
            while run.now < 100 or not run.learner.scheduler.generation:
                run.tick(1.0)
                if progress(run) != before:
                    before, since = progress(run), run.now
                assert run.now - since <= LONGEST_S * max(1, len(kinds)), (
                    run.standstill.waits(),
                    list(run.learner.events),
                )
                assert run.now < 600, ("the first generation does not end", run.standstill.waits())
        finally:
            run.close()


def test_a_run_that_moves_says_nothing(run: SimulatedRun) -> None:
    run.actors.append(SimulatedActor(run, "a", HONEST))
    for _ in range(30):
        run.tick(1.0)
        assert run.standstill.seconds == 0
    assert not run.learner.totals.counters["standstills"]


def test_an_order_that_nobody_else_can_play_is_named(run: SimulatedRun) -> None:
    run.actors.append(SimulatedActor(run, "a", HONEST, ticks=1000))
    while run.now <= 2 * HEARTBEAT_S + 1:
        run.tick(1.0)
    assert run.standstill.seconds > 2 * HEARTBEAT_S
    assert any("env steps of actor a" in wait for wait in run.standstill.waits())
    while not run.learner.totals.counters["standstills"]:
        run.tick(1.0)
        assert run.now < 100
    assert any("the run has stood still for" in event for event in run.learner.events)


def test_a_run_without_actors_says_so_and_that_it_moves_again(run: SimulatedRun) -> None:
    run.actors.append(SimulatedActor(run, "a", HONEST, silent_after=3))
    while run.now < 40:
        run.tick(1.0)
    assert "no actor is at work" in run.standstill.waits()
    assert any("no actor is at work" in event for event in run.learner.events)
    run.actors.append(SimulatedActor(run, "b", HONEST))
    run.tick(1.0)
    run.tick(1.0)
    assert run.standstill.seconds == 0
    assert any("the run moves again after" in event for event in run.learner.events)


def test_updates_that_are_not_made_are_named(run: SimulatedRun) -> None:
    run.actors.append(SimulatedActor(run, "a", HONEST))
    run.tick(1.0)
    while run.now < 60:
        run.tick(1.0, trains=False)
    assert any("updates" in wait for wait in run.standstill.waits())
    assert run.learner.totals.counters["standstills"] == 1


def test_a_paused_run_does_not_stand_still(run: SimulatedRun) -> None:
    run.actors.append(SimulatedActor(run, "a", HONEST))
    run.tick(1.0)
    run.learner.become(RunState.PAUSED)
    for _ in range(60):
        run.tick(1.0)
    assert run.standstill.seconds == 0
    assert not run.learner.totals.counters["standstills"]
