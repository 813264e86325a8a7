"""The `network:` section, which may be one for all, or one per agent or group, as architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from covey.config import NetConfig
from covey.config.encoder_choice import encoder_of, leaf_kinds
from covey.config.section import explain
from covey.errors import ConfigError
from covey.networks.images import image_of, is_image
from covey.networks.mlp import MLP
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces, leaves


def resolve(network: Mapping[str, Any], spaces: EnvironmentSpaces, shared: bool) -> dict[str, NetConfig]:
    """The `network:` section as one NetConfig per network id.

    Single-level (keys of a NetConfig), or keyed by agent or group id; ids that are not named get the default.

    Raises:
        ConfigError: unknown keys, a value out of range, mixed levels, or a per-agent key for a shared group of several.
    """
    fields = set(NetConfig.model_fields)
    flat = {k: v for k, v in network.items() if k in fields}
    nested = {k: v for k, v in network.items() if k not in fields}
    if flat and nested:
        raise ConfigError(
            f"network.{next(iter(nested))}: expected either keys of one network ({', '.join(sorted(fields))}) "
            "or ids of agents or groups, not both"
        )
    if not nested:
        config = _parse("network", flat)
        return {i: _fitting(config, spaces, agents, "network") for i, agents in network_ids(spaces, shared).items()}
    groups = {g.group_id: g for g in spaces.groups}
    for key in nested:
        if key not in groups and key not in spaces.agent_ids:
            raise ConfigError(
                f"network.{key}: no agent or group of the environment, expected one of "
                f"{', '.join(dict.fromkeys([*groups, *spaces.agent_ids]))}, or keys of one network"
            )
    configs = {}
    for network_id, agents in network_ids(spaces, shared).items():
        ids = [spaces.agent_ids[i] for i in agents]
        group = next(g for g in spaces.groups if agents[0] in g.agents)
        if shared and len(ids) > 1 and (own := [i for i in ids if i in nested]):
            raise ConfigError(
                f"network.{own[0]}: agents of group {network_id!r} share one policy; configure network.{network_id}"
            )
        named = [k for k in (*ids, network_id, group.group_id) if k in nested]
        where = f"network.{named[0]}" if named else "network"
        config = _parse(where, nested[named[0]]) if named else NetConfig()
        configs[network_id] = _fitting(config, spaces, agents, where)
    return configs


def asks_for_memory(network: Mapping[str, Any]) -> bool:
    """Whether any policy of a `network:` section has memory; the section may be one for all, or one per agent."""
    sections = [own for own in (network, *network.values()) if isinstance(own, Mapping)]
    encoders = [own.get("encoder_config") for own in sections]
    return any(isinstance(encoder, Mapping) and bool(encoder.get("recurrent")) for encoder in encoders)


def _fitting(config: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...], where: str) -> NetConfig:
    """Return a network's configuration, if its encoder can read what these agents observe.

    Raises:
        ConfigError: it cannot; names the first of the agents.
    """
    first = spaces.agents[agents[0]]
    whose = f"agent {first.agent_id!r}"
    encoder_of(config.encoder_config, first.observation, f"{where}.encoder_config", whose, frames=first.frame_stack)
    return config


def encoder_kinds(network: Mapping[str, Any], spaces: EnvironmentSpaces, shared: bool) -> dict[str, dict[str, Any]]:
    """Return by agent id the kind of encoder that reads its observation, and by leaf the kind that reads the leaf.

    Args:
        network: The `network:` section; {} for the defaults.
        spaces: Spaces of the environment.
        shared: Whether agents of a group share their networks.

    Raises:
        ConfigError: the section does not fit the environment.
    """
    configs, found = resolve(network, spaces, shared), {}
    for network_id, agents in network_ids(spaces, shared).items():
        for agent in (spaces.agents[i] for i in agents):
            own = encoder_of(configs[network_id].encoder_config, agent.observation, "network", agent.agent_id)
            found[agent.agent_id] = {"kind": own.kind, "leaves": leaf_kinds(own, agent.observation)}
    return found


def flattened_images(configs: Mapping[str, NetConfig], spaces: EnvironmentSpaces, shared: bool) -> list[str]:
    """Return a sentence for each network whose MLP reads an image as one flat vector.

    Args:
        configs: Configurations by network id, as `resolve` gives them.
        spaces: Spaces of the environment.
        shared: Whether agents of a group share their networks.
    """
    sentences = []
    for network_id, agents in network_ids(spaces, shared).items():
        seen = spaces.agents[agents[0]].observation
        its = encoder_of(configs[network_id].encoder_config, seen, "network", network_id, frames=spaces.frame_stack)
        images = [image_of(leaf.space) for leaf in leaves(seen) if is_image(leaf.space)]
        if isinstance(its, MLP) and images:
            sentences.append(
                f"network of {network_id}: images of {images[0]} are flattened for an MLP, as encoder_config has its "
                "keys; give it those of a CNN, or none, for convolutions"
            )
    return sentences


def modules_of(network: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the functions of one's own that make modules of networks, as a `network:` section names them."""
    blocks = [network, *network.values()]
    encoders = [block.get("encoder_config") for block in blocks if isinstance(block, Mapping)]
    named = [encoder.get("module") for encoder in encoders if isinstance(encoder, Mapping)]
    return tuple(dict.fromkeys(name for name in named if isinstance(name, str)))


def _parse(path: str, data: Any) -> NetConfig:
    try:
        return NetConfig.model_validate(data)
    except pydantic.ValidationError as exc:
        raise ConfigError(f"{path}.{explain(exc, NetConfig)}") from exc
