"""How memory is said: covey's keys, those of AgileRL's manifests, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.manifests import ON_POLICY

from covey.config import Config, load_config, parse_config
from covey.config.architecture import asks_for_memory, resolve
from covey.config.network import EncoderConfig
from covey.errors import ConfigError
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces

SPACES = EnvironmentSpaces.build(
    [AgentSpec(name, Box("float32", (3,), (-1.0,) * 3, (1.0,) * 3), Discrete(2)) for name in ("a_0", "b_0")]
)


def manifest(tmp_path: Path, network: dict[str, Any], **algorithm: Any) -> Config:
    """A manifest of AgileRL with another `network` section and further keys of `algorithm`."""
    data = yaml.safe_load(ON_POLICY)
    data["network"] = network
    data["algorithm"] |= algorithm
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(data))
    return load_config(path)


def encoder(config: Config) -> EncoderConfig:
    return resolve(config.network, SPACES, True)["a"].encoder_config


@pytest.mark.parametrize(
    "network",
    [
        {"recurrent": True, "encoder_config": {"hidden_state_size": 32}},
        {"encoder_config": {"arch": "lstm", "hidden_state_size": 32, "num_layers": 1}},
        {"arch": "lstm", "encoder_config": {"hidden_state_size": 32}},
        {"encoder_config": {"recurrent": True, "hidden_state_size": 32}},
    ],
)
def test_manifests_with_memory_are_read(tmp_path: Path, network: dict[str, Any]) -> None:
    config = manifest(tmp_path, network, max_seq_len=12)
    assert encoder(config).recurrent and encoder(config).hidden_state_size == 32
    assert asks_for_memory(config.network)
    assert config.algorithm.model_dump()["bptt_steps"] == 12


def test_without_memory_is_as_it_was(tmp_path: Path) -> None:
    config = manifest(tmp_path, {"recurrent": False, "encoder_config": {"hidden_size": [8]}})
    assert not encoder(config).recurrent and not asks_for_memory(config.network)


@pytest.mark.parametrize(
    ("network", "algorithm", "said"),
    [
        ({"encoder_config": {"arch": "lstm", "num_layers": 2}}, {}, "a policy's memory is one GRU layer"),
        ({}, {"recurrent": True}, r"write network.encoder_config: \{recurrent: true\}"),
        ({"recurrent": True, "encoder_config": {"recurrent": False}}, {}, "under another name"),
    ],
)
def test_what_would_be_another_experiment_is_refused(
    tmp_path: Path, network: dict[str, Any], algorithm: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        manifest(tmp_path, network, **algorithm)


def test_one_of_several_agents_may_have_memory() -> None:
    config = parse_config(
        {
            "algorithm": {"name": "IPPO"},
            "environment": {"name": "none"},
            "network": {"b": {"encoder_config": {"recurrent": True, "min_hidden_state_size": 4}}},
            "training": {},
        }
    )
    found = resolve(config.network, SPACES, True)
    assert {name: own.encoder_config.recurrent for name, own in found.items()} == {"a": False, "b": True}
    assert asks_for_memory(config.network)


@pytest.mark.parametrize("key", ["hidden_state_size", "min_hidden_state_size", "max_hidden_state_size"])
def test_sizes_without_memory_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: for policies with memory, expected recurrent: true beside it"):
        resolve({"encoder_config": {key: 32}}, SPACES, True)
