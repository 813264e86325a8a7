"""Exported policies take a number where an observation is an array of one, as training does."""

from __future__ import annotations

import numpy as np
import pytest

from covey.acting import LoadedPolicy
from covey.errors import SpaceError
from covey.networks import MLP, Input, NetworkSpec
from covey.run.exported import Policy
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.wire.policy_file import PolicySpec

ONE = Box("float32", (1,), (-1.0,), (1.0,))
SPACES = EnvironmentSpaces.build([AgentSpec(f"agent_{i}", ONE, Discrete(5)) for i in range(2)])


def policy() -> Policy:
    loaded = []
    for i, agent in enumerate(SPACES.agents):
        network = NetworkSpec(
            inputs=(Input("observation", 1, MLP(hidden_size=(8,))),),
            head=MLP(hidden_size=(8,)),
            outputs=5,
            latent_dim=4,
        )
        params = network.init(np.random.default_rng(i))
        loaded.append(LoadedPolicy(bytes([i]) * 32, PolicySpec(network, ONE, agent.action, "categorical"), params))
    return Policy(SPACES, loaded)


@pytest.mark.parametrize("number", [0.25, np.float32(0.25), np.array(0.25)], ids=["float", "scalar", "without axes"])
def test_a_number_is_an_array_of_one(number: object) -> None:
    given = policy()
    array = {agent: np.array([0.25], np.float32) for agent in SPACES.agent_ids}
    assert given.act(dict.fromkeys(SPACES.agent_ids, number)) == given.act(array)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"of shape \(2,\), expected \(1,\) or a batch"):
        policy().act(dict.fromkeys(SPACES.agent_ids, np.zeros(2, np.float32)))
