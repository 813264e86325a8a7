"""The library and the learner with networks of one's own: they act, are saved and loaded, and are updated eagerly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.catching import Catching

from covey.config import parse_config
from covey.errors import ConfigError
from covey.networks import trusted_modules
from covey_server import Agent, create_population
from covey_server.packing.updates import backend_of
from covey_server.packing.updates.eager import Eager

OWN = {"module": "tests.support.own_networks:conv"}
SEEN = {a: np.full((2, 10, 10, 3), 40, np.uint8) for a in Catching().possible_agents}


def agent(algorithm: str, encoder: dict[str, Any]) -> Agent:
    game = Catching()
    agents = game.possible_agents
    (made,) = create_population(
        algorithm,
        [game.observation_space(a) for a in agents],
        [game.action_space(a) for a in agents],
        {"encoder_config": encoder},
        {"AGENT_IDS": agents},
    )
    return made


@pytest.mark.parametrize("algorithm", ["MADDPG", "IPPO"])
@pytest.mark.parametrize("encoder", [OWN, {"kind": "resnet", "channel_size": 4}, {"kind": "simba", "hidden_size": 8}])
def test_a_member_acts_and_comes_back_from_its_file(
    algorithm: str, encoder: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = agent(algorithm, encoder)
    made.set_training_mode(False)
    first = made.get_action(SEEN)
    made.save_checkpoint(tmp_path)
    monkeypatch.setattr(trusted_modules, "_trusted", [])  # as in another process
    again = Agent.load(tmp_path, modules=[OWN["module"]])
    again.set_training_mode(False)
    for name, network in made.member.networks.items():
        assert again.member.networks[name].spec == network.spec
        for key, values in network.params.items():
            np.testing.assert_array_equal(again.member.networks[name].params[key], values)
    if algorithm == "MADDPG":  # the others sample
        for one, other in zip(first[0].values(), again.get_action(SEEN)[0].values(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_updates_are_eager_and_nothing_else_can_be_asked_for() -> None:
    sections: dict[str, Any] = {
        "algorithm": {"name": "IPPO"},
        "environment": {"name": "mpe2.simple_spread_v3"},
        "training": {},
        "network": {"agent": {"encoder_config": OWN}},
    }
    assert isinstance(backend_of(parse_config(sections), torch.device("cpu")), Eager)
    recorded = parse_config({**sections, "learner": {"updates": "recorded"}})
    with pytest.raises(ConfigError, match=r"'recorded' beside network module tests.*:conv, expected auto or eager"):
        backend_of(recorded, torch.device("cpu"))
