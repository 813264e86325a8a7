"""Orders for actors that play the counting environment, and what the fragments that answer them say."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.support.environments import CounterEnv

from covey.acting import LoadedPolicy
from covey.collect.slot_state import training_episode_seed
from covey.envs import read_spaces
from covey.networks import MLP, Input, NetworkSpec
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec
from covey.v1 import fragment_pb2, order_pb2
from covey.wire.policy_file import PolicySpec, encode_policy

SPACES = read_spaces(CounterEnv())
SCHEMA = RowSchema.of(SPACES)
STEP, FINAL, CUT, TAIL = RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL
GAUSSIAN = order_pb2.Exploration(kind=order_pb2.Exploration.KIND_GAUSSIAN, scale=0.3)


def policy(agent: AgentSpec, seed: int = 0) -> LoadedPolicy:
    """A policy that nobody has trained."""
    encoder = MLP(hidden_size=(4,), min_mlp_nodes=1)
    net = NetworkSpec(
        inputs=(Input("observation", 3, encoder),), head=MLP(hidden_size=(4,)), outputs=agent.action.width, latent_dim=4
    )
    spec = PolicySpec(net, agent.observation, agent.action)
    return LoadedPolicy.decode(encode_policy(spec, net.init(np.random.default_rng(seed))))


MEMBER = [policy(agent, i) for i, agent in enumerate(SPACES.agents)]
POLICIES = {p.sha256: p for p in MEMBER}


def order(steps: dict[int, int], *, order_id: int = 1, **slot: Any) -> order_pb2.Order:
    """An order of steps by slot. Slot i is of member 40 + i and begins with seed 100 + i, unless `slot` says else."""
    made = order_pb2.Order(order_id=order_id, noise_seed=order_id)
    for p in MEMBER:
        made.policies.add(sha256=p.sha256)
    made.policies.add(builtin="random")
    for s, n in steps.items():
        fields = {"agent_policies": [0, 1, 2], "seed": 100 + s, "member_id": 40 + s, "exploration": GAUSSIAN} | slot
        made.slots.add(slot=s, steps=n, **fields)
    return made


def read(fragment: fragment_pb2.Fragment) -> dict[int, Columns]:
    """The columns of each slot's stream."""
    rows = sum(s.rows for s in fragment.streams)
    columns = SCHEMA.decode(fragment.blob, rows, fragment.raw_bytes) if rows else {}
    streams: dict[int, Columns] = {}
    first = 0
    for s in fragment.streams:
        streams[s.slot] = {k: v[first : first + s.rows] for k, v in columns.items()}
        first += s.rows
        kinds = streams[s.slot]["kind"]
        assert s.steps == (kinds == STEP).sum() and s.lead_in_rows == 0
        assert kinds[-1] != STEP and not (kinds[:-1] == TAIL).any()
    return streams


def seen(stream: Columns) -> list[tuple[int, int]]:
    """(seed, step) of each row, by the caller's observation."""
    return [(int(a), int(b)) for a, b, _ in np.asarray(stream["caller/observation"])[:, 0]]


def seed_of(slot: int, episode: int, seed: int = 0) -> int:
    """What the environment shows of the seed of a slot's episode; the slot began with `seed`, or with 100 + slot."""
    return training_episode_seed(seed or 100 + slot, episode) % 65536
