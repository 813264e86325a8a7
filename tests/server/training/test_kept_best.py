"""The best policy so far, where the disk refuses one: what is better than the one that is kept still gets its place."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.processes import write_config

from covey.config import load_config
from covey.envs import load_environment, read_spaces
from covey.run.new_run import new_run
from covey_server.app import LearnerProcess
from covey_server.evolution.fitness import Score
from covey_server.orders.evaluations import Request
from covey_server.population import Population
from covey_server.training.kept_best import KeptBest


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[LearnerProcess]:
    """A learner with a population, which does not train."""
    config = load_config(write_config(tmp_path / "job.yaml", training={"pop_size": 2}))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    env = load_environment(config.environment.name, config.environment.config)()
    with process.learner.lock:
        process.learner.create_population(read_spaces(env, None))
    env.close()
    yield process
    process.stop()


def played(process: LearnerProcess, kept: KeptBest, member_id: int, fitness: float) -> None:
    """A member's confirming episodes, from the request to their score."""
    population = process.learner.population
    assert isinstance(population, Population)
    request = Request(member_id, "best", {}, 25, deque())
    kept.hold(request, population, 3)
    kept.enter(request, population, Score(fitness, 0.5, {"speaker_0": fitness, "listener_0": 0.0}), 12)


def test_what_a_disk_refused_does_not_count_as_kept(learner: LearnerProcess) -> None:
    checkpointer = learner.trainer._checkpointer
    kept = KeptBest(learner.learner, checkpointer)
    run = learner.run
    played(learner, kept, 0, -5.0)
    assert checkpointer.kept_fitness == -5.0
    blocked = run.path / "best.tmp"
    for fitness in (-4.0, -4.0, -3.5):
        blocked.write_text("a file is in the way")
        played(learner, kept, 1, fitness)
        assert checkpointer.kept_fitness == -5.0
        assert json.loads((run.best / "score.json").read_text())["member_id"] == 0
        assert learner.learner.events[-1].endswith("the best policy before stays")
    blocked.unlink()
    for fitness, member_id, expected in ((-4.0, 1, (1, -4.0)), (-4.0, 0, (1, -4.0)), (-4.5, 0, (1, -4.0))):
        played(learner, kept, member_id, fitness)
        score = json.loads((run.best / "score.json").read_text())
        assert (score["member_id"], score["fitness"]) == expected
        assert checkpointer.kept_fitness == -4.0


def test_the_first_one_that_a_disk_refuses_is_tried_again_when_it_is_no_better(learner: LearnerProcess) -> None:
    checkpointer = learner.trainer._checkpointer
    kept = KeptBest(learner.learner, checkpointer)
    (learner.run.path / "best.tmp").write_text("a file is in the way")
    played(learner, kept, 0, -5.0)
    assert checkpointer.kept_fitness is None and not learner.run.best.exists()
    (learner.run.path / "best.tmp").unlink()
    played(learner, kept, 1, -5.0)
    assert json.loads((learner.run.best / "score.json").read_text())["member_id"] == 1


def test_a_replacement_that_a_crash_cut_short_is_undone_at_the_next_start(learner: LearnerProcess) -> None:
    kept = KeptBest(learner.learner, learner.trainer._checkpointer)
    played(learner, kept, 0, -5.0)
    learner.run.best.rename(learner.run.path / "best.old")
    KeptBest(learner.learner, learner.trainer._checkpointer)
    assert json.loads((learner.run.best / "score.json").read_text())["member_id"] == 0
    assert not (learner.run.path / "best.old").exists()
