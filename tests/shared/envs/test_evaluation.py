"""Evaluations in an environment that is built with other arguments than that of training."""

from __future__ import annotations

from typing import Any

import pytest

from covey.collect.collector import Collector
from covey.envs import load_environment, read_spaces
from covey.envs.batched_parts import BatchedParts
from covey.envs.building import build_slots
from covey.envs.check import check_environment
from covey.envs.check_evaluation import with_evaluation
from covey.envs.evaluation import load_evaluation
from covey.envs.processes import AsyncSlots
from covey.envs.sync_slots import SyncSlots
from covey.errors import EnvironmentLoadError, SpaceError
from covey.rows import RowSchema
from covey.v1.order_pb2 import Order
from covey.wire.limits import BUILTIN_RANDOM

SPREAD = "mpe2.simple_spread_v3"


def evaluation(name: str, config: dict[str, Any], **changed: Any) -> Any:
    """What builds the environment of evaluations, and the spaces of both."""
    make = load_environment(name, config)
    env = make()
    spaces = read_spaces(env, None)
    env.close()
    return load_evaluation(make, spaces, config | changed, None), make, spaces


def played(name: str, vectorisation: str, kind: type) -> None:
    """Play both kinds of slots by one order: each has episodes of its own length."""
    make_evaluation, make, spaces = evaluation(name, {"max_cycles": 10}, max_cycles=4)
    slots = build_slots(make, spaces, 5, vectorisation, evaluation=(make_evaluation, 2))
    assert type(slots) is kind
    collector = Collector(slots, spaces, RowSchema.of(spaces), 3, 1, joint_seeds=True)
    try:
        order = Order(order_id=1, eval_steps=20)
        order.policies.add(builtin=BUILTIN_RANDOM)
        for slot in range(3):
            order.slots.add(slot=slot, agent_policies=[0] * 3, steps=20, restart=True, seed=slot + 1)
        order.evaluations.add(task_id=1, agent_policies=[0] * 3, seeds=[1, 2, 3])
        fragment = collector.run(order, {})
    finally:
        collector.close()
    assert not fragment.faults
    assert [e.length for e in fragment.episodes if not e.evaluation] == [10] * 6
    assert [e.length for e in fragment.episodes if e.evaluation] == [4] * 3


def test_evaluation_slots_have_their_own_arguments_and_training_slots_theirs() -> None:
    played(SPREAD, "sync", SyncSlots)
    played("covey.envs.mpe.simple_spread_v3", "sync", BatchedParts)


def test_so_have_those_in_worker_processes() -> None:
    played(SPREAD, "async", AsyncSlots)


def test_the_same_seeds_give_the_same_episodes_whatever_training_does() -> None:
    """An episode of evaluation slots beside training slots is that of evaluation alone."""
    name = "covey.envs.mpe.simple_spread_v3"
    make_evaluation, make, spaces = evaluation(name, {"max_cycles": 10}, max_cycles=4)
    beside = build_slots(make, spaces, 3, evaluation=(make_evaluation, 1))
    alone = build_slots(make_evaluation, spaces, 1)
    beside.reset([0, 1, 2], [5, 6, 7])
    alone.reset([0], [7])
    for ours, theirs in zip(beside.arrays.observation, alone.arrays.observation, strict=True):
        assert (ours[2] == theirs[0]).all()
    beside.close()
    alone.close()


@pytest.mark.parametrize(
    ("config", "changed", "words"),
    [
        (
            {},
            {"N": 4},
            "agents ['agent_0', 'agent_1', 'agent_2', 'agent_3'], expected ['agent_0', 'agent_1', 'agent_2']",
        ),
        ({}, {"continuous_actions": True}, "action space Box"),
        ({"N": 3}, {"num_agent_neighbors": 1}, "observation space Box"),
    ],
)
def test_other_agents_or_spaces_are_refused_by_name(
    config: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpaceError) as raised:
        evaluation(SPREAD, config, **changed)
    text = str(raised.value)
    assert words in text and "environment.evaluation" in text and text.endswith("agents or spaces"), text


def test_arguments_that_it_does_not_have_are_refused() -> None:
    with pytest.raises(EnvironmentLoadError, match=r"'max_cycle'.*environment\.evaluation"):
        evaluation(SPREAD, {}, max_cycle=3)
    with pytest.raises(EnvironmentLoadError, match=r"environment\.evaluation sets num_envs"):
        evaluation("covey.envs.mpe.simple_spread_v3", {}, num_envs=3)


def test_check_env_plays_both() -> None:
    plain = check_environment(load_environment(SPREAD, {"max_cycles": 10}), 40)
    longer = with_evaluation(plain, check_environment(load_environment(SPREAD, {"max_cycles": 20}), 40))
    assert longer.trainable and "2 episodes, of 20 to 20 steps" in longer.will[-1]
    other = with_evaluation(plain, check_environment(load_environment(SPREAD, {"N": 2}), 40))
    assert not other.trainable and other.cannot[0].startswith("environment.evaluation: agents ['agent_0', 'agent_1'], ")
