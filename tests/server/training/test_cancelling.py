"""Returns that sum to zero: a run ends of them only if everybody's do, in one evaluation after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.bad_actors import returns_that_cancel
from tests.support.scripted_play import ScriptedPlay
from tests.support.simulated_run import SimulatedActor, SimulatedRun

from covey.errors import ConfigError
from covey_server.training.cancelling import GENERATIONS

SECTIONS: dict[str, Any] = {
    "training": {"max_steps": 10**6, "evo_steps": 64, "pop_size": 2, "confirm_episodes": 2},
    "actors": {"fragment_steps": 32},
    # Where nobody is named, a game whose returns cancel gets opponents.
    "fitness": {"opponents": {}},
}


def play(folder: Path, actors: list[tuple[bool, int]], generations: int) -> SimulatedRun:
    """Simulate actors that are honest or not, and so quick, over some generations; both kinds have joined first."""
    run = SimulatedRun(folder, **SECTIONS)
    try:
        for i, (honest, ticks) in enumerate(actors):
            answer = ScriptedPlay.play if honest else returns_that_cancel
            run.actors.append(SimulatedActor(run, f"a{i}", answer, ticks))
        while run.learner.scheduler.generation < generations:
            run.tick(1.0)
            assert run.now < 1000, run.standstill.waits()
    finally:
        run.close()
    return run


def test_a_run_in_which_all_returns_cancel_ends_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sum to zero in every evaluated episode"):
        play(tmp_path, [(False, 1), (False, 2)], GENERATIONS + 2)


def test_one_actor_cannot_end_it_however_quick_it_is(tmp_path: Path) -> None:
    run = play(tmp_path, [(False, 1), (True, 12)], GENERATIONS + 2)
    assert any("sum to zero" in event for event in run.learner.events)


def test_honest_returns_between_end_the_streak(tmp_path: Path) -> None:
    run = play(tmp_path, [(True, 1)], GENERATIONS + 2)
    assert not any("sum to zero" in event for event in run.learner.events)
