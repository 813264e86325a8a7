"""Actors that send heartbeats and do not do what they are told, and what they cost an honest one beside them.

    python -m tests.support.bad_actors [--seconds 60] [NAME ...]

prints a JSON object for each bad actor: the honest actor's env steps in so many seconds beside it, also as a share of
those that it makes alone, the run's env steps in this time (one that trains honestly takes its part of them), and what
the learner says of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from tests.support.processes import PATIENCE_S, free_port, processes, until, write_config
from tests.support.running_learners import status
from tests.support.scripted_actor import ScriptedActor
from tests.support.scripted_play import ScriptedPlay

from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.v1.population_service_pb2 import ListActorsRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub

Answer = Callable[[ScriptedPlay, Order], Fragment | None]


def sleeps(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Nothing, ever."""
    return None


def other_seeds(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Honest but for evaluations, whose seeds are others."""
    fragment = actor.play(order)
    for episode in fragment.episodes:
        episode.seed += episode.evaluation
    return fragment


def other_tasks(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Honest but for evaluations, of a task that nobody was given."""
    fragment = actor.play(order)
    for episode in fragment.episodes:
        episode.task_id += episode.evaluation * (1 << 50)
    return fragment


def other_policies(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Honest but for evaluations, which other policies play."""
    fragment = actor.play(order)
    for episode in fragment.episodes:
        if episode.evaluation:
            episode.policies = bytes(len(episode.policies))
    return fragment


def no_evaluations(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Training alone: evaluations are not played."""
    asked = Order()
    asked.CopyFrom(order)
    del asked.evaluations[:]
    asked.eval_steps = 0
    return actor.play(asked)


def huge_rewards(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Honest but for rewards, all of which are the smallest float32."""
    fragment = actor.play(order)
    rows = sum(stream.rows for stream in fragment.streams)
    if rows:
        columns = dict(actor.schema.decode(fragment.blob, rows, fragment.raw_bytes))
        for name, values in columns.items():
            if name.endswith("/reward"):
                columns[name] = np.full_like(values, np.finfo(np.float32).min)
        fragment.blob, fragment.raw_bytes = actor.schema.encode(columns, 1)
    return fragment


def returns_that_cancel(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Honest but for evaluations, whose returns sum to zero."""
    fragment = actor.play(order)
    for episode in fragment.episodes:
        if episode.evaluation:
            episode.returns[:] = [1.0, -1.0, *[0.0] * (len(episode.returns) - 2)]
    return fragment


def empty(actor: ScriptedPlay, order: Order) -> Fragment | None:
    """Answers every order at once by a fragment with nothing in it."""
    actor.seq += 1
    return Fragment(seq=actor.seq, order_id=order.order_id, schema_hash=actor.schema.hash)


ANSWERS: dict[str, Answer] = {
    f.__name__: f
    for f in (
        *(sleeps, other_seeds, other_tasks, other_policies, no_evaluations, huge_rewards, returns_that_cancel, empty),
    )
}
"""The bad actors by name."""


@contextmanager
def at_work(address: str, answer: Answer, kind: type[ScriptedActor] = ScriptedActor) -> Iterator[threading.Thread]:
    """A scripted actor that sends heartbeats and answers each order by what `answer` makes of it; yields its thread."""
    actor = kind(address, "bad")
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
        except (AssertionError, grpc.RpcError):
            pass  # the stream has ended
        except ValueError:  # grpc's, of a channel that is closed
            if not ended.is_set():
                raise

    threads = [threading.Thread(target=beat, daemon=True), threading.Thread(target=work, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield threads[1]
    finally:
        ended.set()
        actor.vanish()
        for thread in threads:
            thread.join(PATIENCE_S)


def steps_of(address: str, actor_id: str) -> int:
    """Env steps that an actor has brought."""
    with grpc.insecure_channel(address) as channel:
        actors = PopulationServiceStub(channel).ListActors(ListActorsRequest(), timeout=PATIENCE_S).actors
    return sum(actor.env_steps for actor in actors if actor.actor_id == actor_id)


def honest_steps(answer: Answer | None, seconds: float) -> tuple[int, dict[str, object]]:
    """Env steps of an honest actor beside a bad one (None: beside nobody), and the learner's status at the end.

    The status has `all_steps` too, those of the whole run in this time.
    """
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder, processes() as start:
        config = write_config(Path(folder) / "job.yaml", training={"max_steps": 10**7, "evo_steps": 2000})
        start(Path(folder) / "learner.log", "learner", config, "--bind", address, "--runs", Path(folder) / "runs")
        until(lambda: status(address), what="the learner answers")
        start(Path(folder) / "honest.log", "actor", "--learner", address, "--name", "honest")
        until(lambda: steps_of(address, "honest") > 1000, what="the honest actor is at work")

        def measure() -> tuple[int, dict[str, object]]:
            before, began = steps_of(address, "honest"), status(address) or {}
            time.sleep(seconds)
            told = status(address) or {}
            told["all_steps"] = told.get("env_steps", 0) - began.get("env_steps", 0)
            return steps_of(address, "honest") - before, told

        if answer is None:
            return measure()
        with at_work(address, answer):
            return measure()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*ANSWERS, []], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    alone, _ = honest_steps(None, arguments.seconds)
    for name in arguments.names or ANSWERS:
        steps, told = honest_steps(ANSWERS[name], arguments.seconds)
        counters = told.get("counters")
        named = [event for event in told.get("events", []) if "actor bad" in str(event)]  # type: ignore[attr-defined]
        says = {
            "all_steps": told.get("all_steps"),
            "state": told.get("state"),
            "counters": counters,
            "events": named[-2:],
        }
        print(json.dumps({"bad": name, "honest_steps": steps, "share": round(steps / alone, 2), **says}), flush=True)


if __name__ == "__main__":
    main()
