"""The `network:` section, which may be one for all, or one per agent or group, as architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from covey.config import MLPConfig, NetConfig
from covey.config.section import explain
from covey.errors import ConfigError
from covey.networks.mlp import MLP
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces


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
        return {i: config for i in network_ids(spaces, shared)}
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
        configs[network_id] = _parse(f"network.{named[0]}", nested[named[0]]) if named else NetConfig()
    return configs


def _parse(path: str, data: Any) -> NetConfig:
    try:
        return NetConfig.model_validate(data)
    except pydantic.ValidationError as exc:
        raise ConfigError(f"{path}.{explain(exc, NetConfig)}") from exc


def mlp(config: MLPConfig) -> MLP:
    """The architecture that a configuration describes."""
    return MLP.from_json(config.model_dump())
