"""What a scripted learner orders: policies for the environment that it describes, and orders under them."""

from __future__ import annotations

import numpy as np
from tests.support.scripted_learner import SPACES

from covey.networks import MLP, Input, NetworkSpec
from covey.v1 import order_pb2
from covey.wire.policy_file import PolicySpec, encode_policy, policy_sha256

POLICIES: dict[bytes, bytes] = {}
"""Policy files by their hash."""

SHAS: list[bytes] = []
"""The hash of each agent's policy."""

for _i, _agent in enumerate(SPACES.agents):
    _net = NetworkSpec(
        inputs=(Input("observation", 3, MLP(hidden_size=(4,), min_mlp_nodes=1)),),
        head=MLP(hidden_size=(4,)),
        outputs=_agent.action.width,
        latent_dim=4,
    )
    _data = encode_policy(PolicySpec(_net, _agent.observation, _agent.action), _net.init(np.random.default_rng(_i)))
    SHAS.append(policy_sha256(_data))
    POLICIES[SHAS[-1]] = _data


def order(order_id: int, steps: int = 3, *, shas: list[bytes] | None = None) -> order_pb2.Order:
    """An order of so many steps in slot 0, under each agent's policy unless other hashes are given."""
    made = order_pb2.Order(order_id=order_id, noise_seed=order_id)
    for sha in shas or SHAS:
        made.policies.add(sha256=sha)
    made.slots.add(slot=0, agent_policies=[0, 1, 2], steps=steps, seed=5, member_id=1)
    return made
