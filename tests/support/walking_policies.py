"""Policies of walkers and callers for tests of acting, with weights from a seed."""

from __future__ import annotations

import numpy as np

from covey.acting import LoadedPolicy
from covey.networks import MLP, Input, NetworkSpec
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, Space
from covey.wire.policy_file import PolicySpec, encode_policy

SEEN = Box("float32", (4,), (-np.inf,) * 4, (np.inf,) * 4)
PIXELS = Box("uint8", (2, 2), (0.0,) * 4, (255.0,) * 4)
WALK = Box("float32", (2,), (1.0, -np.inf), (3.0, 5.0))
GRIP = Box("float64", (1, 2), (-0.1, 0.0), (0.2, 0.3))
SAY = Discrete(3, start=5)

SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("walker_0", SEEN, WALK),
        AgentSpec("caller_0", SEEN, SAY),
        AgentSpec("walker_1", SEEN, WALK),
        AgentSpec("gripper", PIXELS, GRIP),
    ]
)


def policy(seed: int, observation: Space = SEEN, action: Space = WALK, **mlp: object) -> LoadedPolicy:
    fields: dict[str, object] = {"hidden_size": (8,), "min_mlp_nodes": 1} | mlp
    encoder = MLP(**fields)  # type: ignore[arg-type]
    net = NetworkSpec(
        inputs=(Input("observation", observation.width, encoder),),
        head=MLP(hidden_size=(6,)),
        outputs=action.width,
        latent_dim=5 + seed % 3,
    )
    params = net.init(np.random.default_rng(seed))
    params |= {name: 0.3 * p for name, p in params.items() if name.endswith(".gate")}
    return LoadedPolicy.decode(encode_policy(PolicySpec(net, observation, action), params))
