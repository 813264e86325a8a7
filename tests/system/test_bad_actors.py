"""Beside an honest actor, one that sends heartbeats and does not do what it is told: the run goes on, and says so."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tests.support.bad_actors import ANSWERS, at_work
from tests.support.processes import PATIENCE_S, covey_json, free_port, newest_run, processes, until, write_config
from tests.support.running_learners import status

from covey.v1.population_service_pb2 import DrainActorRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub

STEPS = 1600


@pytest.mark.parametrize(
    ("answer", "counter"),
    [
        ("sleeps", "orders_overdue"),
        ("other_seeds", "evaluations_taken_back"),
        ("other_tasks", "evaluations_taken_back"),
        ("other_policies", "evaluations_taken_back"),
        ("no_evaluations", "evaluations_taken_back"),
        ("empty", "answers_empty"),
        ("huge_rewards", "refused_not_finite"),
    ],
)
def test_the_run_comes_to_its_end_and_names_the_actor(answer: str, counter: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = write_config(
        tmp_path / "job.yaml",
        training={"max_steps": STEPS, "evo_steps": STEPS // 4, "pop_size": 2, "confirm_episodes": 8},
        actors={"step_timeout_s": 3.0},
        learner={"heartbeat_interval_s": 1.0},
    )
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        with at_work(address, ANSWERS[answer]):
            start(tmp_path / "honest.log", "actor", "--learner", address, "--name", "honest")
            assert learner.wait() == 0, learner.output()
    run = newest_run(tmp_path / "runs")
    answered = covey_json("status", run, "--json")
    assert answered["env_steps"] == 2 * STEPS
    assert answered["counters"][counter] > 0
    assert any("actor bad " in event for event in answered["events"])


def test_a_drained_actor_that_does_not_answer_gives_its_orders_back(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = write_config(
        tmp_path / "job.yaml",
        training={"max_steps": STEPS, "evo_steps": STEPS, "pop_size": 2, "confirm_episodes": 2},
        actors={"step_timeout_s": 2.0},
    )
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        with at_work(address, ANSWERS["sleeps"]):
            until(lambda: (status(address) or {})["gauges"]["orders_out"], what="it has orders")
            with grpc.insecure_channel(address) as channel:
                PopulationServiceStub(channel).DrainActor(DrainActorRequest(actor_id="bad"), timeout=PATIENCE_S)
            start(tmp_path / "honest.log", "actor", "--learner", address, "--name", "honest")
            assert learner.wait() == 0, learner.output()
    assert covey_json("status", newest_run(tmp_path / "runs"), "--json")["env_steps"] == 2 * STEPS
