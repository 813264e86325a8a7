"""Environments whose observations leave their own spaces: told once for each agent and number, wherever they step."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from tests.support.observed_environments import Outside
from tests.support.written_environments import Plain

from covey.collect import Collector
from covey.envs import build_slots, load_environment
from covey.envs.check import check_environment
from covey.envs.outside_bounds import MOST_SENTENCES, OutsideBounds
from covey.envs.reading import read_spaces
from covey.envs.vector import AsyncPettingZooVecEnv, make_multi_agent_vect_envs
from covey.rows import RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.v1.order_pb2 import Order, PolicyRef
from covey_server.ingest.validation import check_fragment

SENTENCE = "observation of agent 'a_1' is 12 at [0], expected -10 to 10 as its observation space says"


def test_each_agent_and_number_once() -> None:
    spaces = EnvironmentSpaces.build(
        [AgentSpec(f"a_{i}", Box("float32", (3,), (0.0,) * 3, (1.0,) * 3), Discrete(2)) for i in range(2)]
    )
    slots = build_slots(load_environment("tests.support.written_environments:Plain", {}), spaces, 2)
    watch = OutsideBounds(spaces)
    arrays = slots.arrays
    arrays.present[:] = 1
    said = []
    for slot, agent, number, value in ((0, 0, 1, 2), (1, 0, 1, 3), (1, 1, 1, 4), (0, 0, 2, -1), (0, 1, 1, 9)):
        arrays.observation[0][...] = 0
        arrays.observation[0][slot, agent, number] = value
        said.append(watch.look(arrays))
    assert [[s.split(", expected")[0] for s in step] for step in said] == [
        ["observation of agent 'a_0' is 2 at [1]"],
        [],
        ["observation of agent 'a_1' is 4 at [1]"],
        ["observation of agent 'a_0' is -1 at [2]"],
        [],
    ]
    arrays.observation[0][...] = 7
    assert [s.rpartition("says")[2] for s in watch.look(arrays)] == ["", " (and 1 of its other numbers)"]
    assert watch.look(arrays) == []


def test_of_an_image_not_every_pixel() -> None:
    size = 8 * MOST_SENTENCES
    space = Box("float32", (size,), (0.0,) * size, (1.0,) * size)
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", space, Discrete(2))])
    slots = build_slots(load_environment("tests.support.written_environments:Plain", {}), spaces, 1)
    slots.arrays.present[:] = 1
    watch, said = OutsideBounds(spaces), 0
    for pixel in range(size):
        slots.arrays.observation[0][0, 0, pixel] = 2
        said += len(watch.look(slots.arrays))
    assert said == MOST_SENTENCES


@pytest.mark.parametrize("build", [AsyncPettingZooVecEnv, None])
def test_the_librarys_environments_warn_once(
    build: Callable[..., AsyncPettingZooVecEnv] | None, caplog: pytest.LogCaptureFixture
) -> None:
    env = build([Outside, Outside]) if build else make_multi_agent_vect_envs(Outside, num_envs=2)
    with caplog.at_level(logging.WARNING, logger="covey.envs"):
        env.reset(seed=0)
        for _ in range(40):
            env.step({a: np.zeros(2, np.int64) for a in env.agents})
    env.close()
    [line] = caplog.messages
    assert line == f"environment: {SENTENCE}; it is used as it is, and told once"


def test_actors_and_evaluations_warn_once(caplog: pytest.LogCaptureFixture) -> None:
    make = load_environment("tests.support.observed_environments:Outside", {})
    spaces = read_spaces(make())
    schema = RowSchema.of(spaces)
    collector = Collector(build_slots(make, spaces, 3), spaces, schema, 2, 1)
    with caplog.at_level(logging.WARNING, logger="covey.envs"):
        for order_id in range(1, 4):
            order = Order(order_id=order_id, policies=[PolicyRef(builtin="random")], noise_seed=1)
            for slot in range(2):
                order.slots.add(slot=slot, steps=20, agent_policies=[0, 0], seed=slot)
            fragment = collector.run(order, {})
            assert not fragment.faults and [s.steps for s in fragment.streams] == [20, 20]
    collector.close()
    assert caplog.messages == [f"environment: {SENTENCE}; it is used as it is, and told once"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("TooLarge", "reward of agent 'a_0' is 10000000000000.0, expected at most 1e+12 either way"),
        ("TooLargeToSee", "observation of agent 'a_0' is 1e+300, expected at most 3.4e+38 either way"),
    ],
)
def test_what_float32_cannot_hold_is_a_fault_like_an_infinity(name: str, says: str) -> None:
    make = load_environment(f"tests.support.observed_environments:{name}", {})
    spaces = read_spaces(make())
    schema = RowSchema.of(spaces)
    collector = Collector(build_slots(make, spaces, 1), spaces, schema, 1, 1)
    order = Order(order_id=77, policies=[PolicyRef(builtin="random")], noise_seed=1)
    order.slots.add(slot=0, steps=4, agent_policies=[0, 0])
    fragment = collector.run(order, {})
    collector.close()
    assert fragment.faults[0].message == says and fragment.streams[0].steps == 4
    fragment.seq = 1
    assert check_fragment(fragment, order, schema, spaces).steps == 4, "the learner takes what is left"
    assert says.split(" is ")[0] in " ".join(check_environment(make, 50).cannot)


def test_check_env_tells_of_it_and_finds_the_environment_trainable() -> None:
    report = check_environment(load_environment("tests.support.observed_environments:Outside", {}), 50)
    assert report.trainable and report.behaviour is not None and report.behaviour.outside == [SENTENCE]
    assert f"bounds: {SENTENCE}; it is used as it is, so correct the space or the environment" in report.will


def test_an_environment_within_its_spaces_is_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    env = make_multi_agent_vect_envs(Plain, num_envs=2)
    assert read_spaces(Plain()) == env.spaces
    env.reset()
    for _ in range(12):
        env.step({a: np.zeros(2, np.int64) for a in env.agents})
    env.close()
    assert not caplog.messages
