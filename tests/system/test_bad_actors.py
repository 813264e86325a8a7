"""Beside an honest actor, one that sends heartbeats and does not do what it is told: the run goes on, and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tests.support.processes import PATIENCE_S, covey_json, free_port, newest_run, processes, until, write_config
from tests.support.running_learners import status
from tests.support.scripted_actor import ScriptedActor

from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.v1.population_service_pb2 import DrainActorRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub

STEPS = 1600

Answer = Callable[[ScriptedActor, Order], Fragment | None]


def sleeps(actor: ScriptedActor, order: Order) -> Fragment | None:
    """Nothing, ever."""
    return None


def other_seeds(actor: ScriptedActor, order: Order) -> Fragment | None:
    """Honest but for evaluations, whose seeds are others."""
    fragment = actor.play(order)
    for episode in fragment.episodes:
        episode.seed += episode.evaluation
    return fragment


def other_tasks(actor: ScriptedActor, order: Order) -> Fragment | None:
    """Honest but for evaluations, of a task that nobody was given."""
    fragment = actor.play(order)
    for episode in fragment.episodes:
        episode.task_id += episode.evaluation * (1 << 50)
    return fragment


def other_policies(actor: ScriptedActor, order: Order) -> Fragment | None:
    """Honest but for evaluations, which other policies play."""
    fragment = actor.play(order)
    for episode in fragment.episodes:
        if episode.evaluation:
            episode.policies = bytes(len(episode.policies))
    return fragment


def no_evaluations(actor: ScriptedActor, order: Order) -> Fragment | None:
    """Training alone: evaluations are not played."""
    asked = Order()
    asked.CopyFrom(order)
    del asked.evaluations[:]
    asked.eval_steps = 0
    return actor.play(asked)


@contextmanager
def at_work(address: str, answer: Answer) -> Iterator[ScriptedActor]:
    """A scripted actor that sends heartbeats and answers each order by what `answer` makes of it."""
    actor = ScriptedActor(address, "bad")
    actor.join()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.2):
            actor.beat()

    def work() -> None:
        try:
            while not ended.is_set():
                order = actor.order()
                fragment = answer(actor, order)
                if fragment is not None:
                    actor.send(fragment)
        except (AssertionError, grpc.RpcError, ValueError):
            pass  # the stream has ended

    threads = [threading.Thread(target=beat, daemon=True), threading.Thread(target=work, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield actor
    finally:
        ended.set()
        actor.vanish()
        for thread in threads:
            thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("answer", "counter"),
    [
        (sleeps, "orders_overdue"),
        (other_seeds, "evaluations_taken_back"),
        (other_tasks, "evaluations_taken_back"),
        (other_policies, "evaluations_taken_back"),
        (no_evaluations, "evaluations_taken_back"),
    ],
)
def test_the_run_comes_to_its_end_and_names_the_actor(answer: Answer, counter: str, tmp_path: Path) -> None:
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
        with at_work(address, answer):
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
        with at_work(address, sleeps):
            until(lambda: (status(address) or {})["gauges"]["orders_out"], what="it has orders")
            with grpc.insecure_channel(address) as channel:
                PopulationServiceStub(channel).DrainActor(DrainActorRequest(actor_id="bad"), timeout=PATIENCE_S)
            start(tmp_path / "honest.log", "actor", "--learner", address, "--name", "honest")
            assert learner.wait() == 0, learner.output()
    assert covey_json("status", newest_run(tmp_path / "runs"), "--json")["env_steps"] == 2 * STEPS
