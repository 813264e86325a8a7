"""`create_population` on images: `NET_CONFIG` with the page's keys of convolutions, by agent, by group or for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.catching import Catching

from covey.errors import ConfigError
from covey.networks import CNN, Encoder
from covey_server import create_population

CONVOLUTIONS = {"channel_size": [16, 16], "kernel_size": [4, 2], "stride_size": [2, 1]}


def encoders(algorithm: str, net_config: dict[str, Any] | None) -> dict[str, Encoder]:
    """The encoders of a member's policies by network id."""
    game = Catching()
    agents = game.possible_agents
    (agent,) = create_population(
        algorithm,
        [game.observation_space(a) for a in agents],
        [game.action_space(a) for a in agents],
        net_config,
        {"AGENT_IDS": agents},
    )
    seen = {a: np.zeros((1, 10, 10, 3), np.uint8) for a in agents}
    actions = agent.get_action(seen)
    assert set(actions[0] if isinstance(actions, tuple) else actions) == set(agents)
    networks = agent.member.networks
    return {
        name.removeprefix("actor/"): network.spec.inputs[0].encoder
        for name, network in networks.items()
        if name.startswith("actor/")
    }


@pytest.mark.parametrize("algorithm", ["MADDPG", "IPPO"])
def test_images_get_convolutions_without_and_with_the_pages_keys(algorithm: str) -> None:
    for net_config in (None, {"encoder_config": CONVOLUTIONS}, {"latent_dim": 32, "encoder_config": CONVOLUTIONS}):
        for encoder in encoders(algorithm, net_config).values():
            assert isinstance(encoder, CNN) and encoder.image == (10, 10, 3)
            assert (encoder.kernel_size == (4, 2)) == (net_config is not None)


def test_one_agent_may_have_its_own() -> None:
    found = encoders("MADDPG", {"catcher_0": {"encoder_config": CONVOLUTIONS}})
    one, other = found["catcher_0"], found["catcher_1"]
    assert isinstance(one, CNN) and isinstance(other, CNN)
    assert one.kernel_size == (4, 2) and other.kernel_size == (3, 3)
    mixed = encoders("MADDPG", {"catcher_0": {"encoder_config": {"hidden_size": [8]}}})
    assert {name: encoder.kind for name, encoder in mixed.items()} == {"catcher_0": "mlp", "catcher_1": "cnn"}
    shared = encoders("IPPO", {"catcher": {"encoder_config": CONVOLUTIONS}})
    assert [encoder.kind for encoder in shared.values()] == ["cnn"]


def test_a_kernel_without_room_is_refused_by_the_agents_name() -> None:
    with pytest.raises(ConfigError, match=r"kernel_size: 11 in layer 0, expected at most 10: of agent 'catcher_0'"):
        encoders("MADDPG", {"encoder_config": {"kernel_size": [11]}})
