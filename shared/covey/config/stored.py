"""Configurations that were stored by an earlier version, which may hold keys that are gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GONE = {"MADDPG": ("policy_freq", "target_noise", "target_noise_clip")}
"""Keys of the `algorithm:` section that were stored, but that the algorithm never read, by its name."""


def without_gone_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a stored configuration without the keys of `GONE`; what they held never meant anything."""
    section = data.get("algorithm")
    if not isinstance(section, Mapping):
        return dict(data)
    gone = GONE.get(str(section.get("name")), ())
    return {**data, "algorithm": {key: value for key, value in section.items() if key not in gone}}
