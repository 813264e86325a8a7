"""What an actor is told: descriptions of environments, and orders, which it carries out in real environments."""

from __future__ import annotations

import functools
from random import Random

import numpy as np
from tests.fuzz.mutate import spoil_message
from tests.fuzz.target import Target
from tests.fuzz.text import network_of
from tests.support.environments import CounterEnv

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import SyncSlots, read_spaces
from covey.errors import ConfigError, EnvironmentLoadError, RefusedError, SpaceError
from covey.rows import RowSchema
from covey.v1.environment_pb2 import EnvironmentSpec
from covey.v1.order_pb2 import Exploration, Order
from covey.wire.messages import groups_from_proto
from covey.wire.policy_file import PolicySpec, encode_policy
from covey_actor.described import arguments
from covey_server.ingest.validation import check_fragment

SPACES = read_spaces(CounterEnv())
SCHEMA = RowSchema.of(SPACES)
TRAIN, EVALUATE = 2, 1
KINDS = tuple(Exploration.Kind.values())
MOST_STEPS = 10  # more take long, and show nothing else


@functools.cache
def _policies() -> dict[bytes, LoadedPolicy]:
    loaded = []
    for i, agent in enumerate(SPACES.agents):
        spec = PolicySpec(network_of(agent), agent.observation, agent.action)
        loaded.append(LoadedPolicy.decode(encode_policy(spec, spec.network.init(np.random.default_rng(i)))))
    return {p.sha256: p for p in loaded}


def _hostile_order(rng: Random) -> Order:
    order = Order(order_id=1, noise_seed=rng.getrandbits(64), eval_steps=rng.choice((0, 10)))
    for sha256 in _policies():
        order.policies.add(sha256=sha256)
    order.policies.add(builtin="random")
    for slot in range(TRAIN):
        exploration = Exploration(kind=rng.choice(KINDS), scale=0.3, mean=0.1, theta=0.15, dt=0.01)
        work = order.slots.add(slot=slot, steps=rng.randrange(1, 9), member_id=slot, exploration=exploration, seed=7)
        work.agent_policies.extend(rng.choice(([0, 1, 2], [3, 3, 3], [0, 3, 2])))
    if order.eval_steps:
        order.evaluations.add(task_id=5, agent_policies=[0, 1, 2], seeds=[1, 2**63], max_episode_steps=20)
    return spoil_message(rng, order) if rng.random() < 0.95 else order


def _carry_out(hostile: Order) -> None:
    # What it cannot have fetched it never begins.
    if any(p.WhichOneof("source") == "sha256" and p.sha256 not in _policies() for p in hostile.policies):
        return
    collector = Collector(SyncSlots(CounterEnv, SPACES, TRAIN + EVALUATE), SPACES, SCHEMA, TRAIN, 1)
    steps = iter(range(MOST_STEPS))
    fragment = collector.run(hostile, _policies(), lambda: next(steps, None) is None)
    check_fragment(fragment, hostile, SCHEMA, SPACES)


def _hostile_description(rng: Random) -> EnvironmentSpec:
    spec = EnvironmentSpec(
        entry_point="tests.support.environments:counter",
        config_json='{"length": 5}',
        train_slots=4,
        eval_slots=1,
        evaluation_config_json='{"length": 9}',
    )
    spec.groups.add(group_id="walkers", agent_ids=["walker_0", "walker_1"])
    spec.groups.add(group_id="caller", agent_ids=["caller_0"])
    spoilt = spoil_message(rng, spec)
    if rng.random() < 0.3:
        spoilt.config_json = rng.choice(("[" * 9999, "9" * 9999, '{"length": 1e999}', "[]", '{"a":1,"a":2}', "{", "\0"))
    return spoilt


def _read_description(hostile: EnvironmentSpec) -> None:
    assert isinstance(arguments(hostile.config_json, "environment.config"), dict)
    assert isinstance(arguments(hostile.evaluation_config_json, "environment.evaluation"), dict)
    read_spaces(CounterEnv(), groups_from_proto(hostile.groups))


ORDERS = (
    Target("order", _hostile_order, _carry_out, (RefusedError,)),
    Target("description", _hostile_description, _read_description, (EnvironmentLoadError, ConfigError, SpaceError)),
)
