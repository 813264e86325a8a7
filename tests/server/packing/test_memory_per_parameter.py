"""What the learner keeps for one parameter of its networks, between updates and as a generation begins."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from covey.config import parse_config
from covey.resources import return_freed_memory, rss_bytes
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.build import PopulationFactory
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.population import Population

MOST_BYTES = 24
STEPS = 8


@pytest.mark.parametrize("name", ["MATD3", "IPPO"])
def test_every_number_is_held_once(name: str) -> None:
    # In a process of its own, where nothing else takes memory meanwhile.
    measured = multiprocessing.get_context("spawn").Process(target=train, args=(name,))
    measured.start()
    measured.join()
    assert measured.exitcode == 0


def population(name: str, width: int) -> tuple[PopulationFactory, Population]:
    seen = Box("float32", (width,), (-1.0,) * width, (1.0,) * width)
    spaces = EnvironmentSpaces.build([AgentSpec(f"a_{i}", seen, Discrete(3)) for i in range(2)])
    algorithm = {"name": name, "batch_size": 4, "learn_step": STEPS, "share_parameters": False}
    config = parse_config(
        {
            "algorithm": algorithm,
            "environment": {"name": "none"},
            "training": {"pop_size": 2},
            "replay_buffer": {"max_size": STEPS},
            "mutation": {"probabilities": {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "act_mut": 0, "rl_hp_mut": 0}},
        }
    )
    factory = PopulationFactory(config)
    made = factory.fresh(spaces)
    publish(made)
    return factory, made


def publish(made: Population) -> None:
    made.policies.offer(made.algorithm.snapshot())
    made.policies.publish(m.member_id for m in made.members)
    made.policies.drop_unnamed(set)


def update(made: Population) -> None:
    columns = RowSchema.of(made.spaces).empty(STEPS + 1)
    columns["kind"][:] = [RowKind.STEP] * STEPS + [RowKind.TAIL]
    columns["a/active"][:] = 1
    if isinstance(made.experience, Replay):
        made.experience.insert(columns, [SlotStream(rows=STEPS + 1, steps=STEPS)])
    elif isinstance(made.experience, Rollouts):
        for m in made.members:
            stream = Stream(0, m.member_id, 0, STEPS + 1, 0, STEPS, False)
            made.experience.insert(m.member_id, columns, [stream], "actor")
    made.algorithm.update([0, 1], made.experience)
    publish(made)


def train(name: str) -> None:
    """Update and evolve a population of large networks, and look at this process's memory."""
    _, small = population(name, 8)
    for _ in range(4):
        update(small)  # whatever comes with the first updates of all
    before = rss_bytes()
    factory, made = population(name, 40_000)
    parameters = sum(n.spec.numbers for m in made.members for n in m.networks.values())

    def taken() -> float:
        return_freed_memory()
        return (rss_bytes() - before) / parameters

    def learn() -> None:
        made.algorithm.release()  # as the trainer does before the first update
        for _ in range(2):
            update(made)

    learn()
    assert taken() < MOST_BYTES, taken()
    made.algorithm.unpack()
    for i, m in enumerate(made.members):
        m.fitness = float(i)
    made.members, made.algorithm = factory.evolve(made, 1)
    made.policies.offer(made.algorithm.snapshot())
    assert taken() < 2 * 4 * 4 + 8, taken()
    assert all(np.isfinite(v).all() for m in made.members for n in m.networks.values() for v in n.params.values())
    learn()
    assert taken() < MOST_BYTES, taken()
