"""Spaces as JSON objects and back, exactly: what checkpoints and policy files hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from covey.errors import SpaceError
from covey.spaces import AgentSpec, Box, EnvironmentSpaces, Space
from covey.wire.limits import MAX_NUMBERS
from covey.wire.space_fields import space_fields, space_from_fields

_BOUNDS = ("low", "high")


def float_to_json(value: float) -> float | str:
    """A number as it is, or one of the texts "inf", "-inf", "nan", for which JSON has no numbers."""
    return value if math.isfinite(value) else str(float(value))


def float_from_json(value: Any) -> float:
    """The number that `float_to_json` wrote.

    Raises:
        ValueError, TypeError: no number.
    """
    return float(value)


def space_to_json(space: Space) -> dict[str, Any]:
    """A JSON object from which `space_from_json` makes an equal space; equal bounds are written once."""
    kind, fields = space_fields(space)
    return {"kind": kind} | {
        name: [float_to_json(b) for b in value] if name in _BOUNDS else value for name, value in fields.items()
    }


def space_from_json(data: Any) -> Space:
    """The space of a JSON object of `space_to_json`, which may come from elsewhere.

    Raises:
        SpaceError: not such an object.
    """
    try:
        return space_from_fields(data["kind"], data, "space")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise SpaceError(f"space: {type(exc).__name__} {exc}, expected a space as covey writes it") from exc


def spaces_to_json(spaces: EnvironmentSpaces) -> dict[str, Any]:
    """A JSON object of the agents in environment order with their spaces, and of the groups by id."""
    return {
        "agents": [
            {
                "agent_id": a.agent_id,
                "observation": space_to_json(a.observation),
                "action": space_to_json(a.action),
                "masked": a.masked,
            }
            for a in spaces.agents
        ],
        "groups": {g.group_id: [spaces.agent_ids[i] for i in g.agents] for g in spaces.groups},
        "asynchronous": spaces.asynchronous,
    }


def spaces_from_json(data: Any) -> EnvironmentSpaces:
    """The agents, spaces and groups of a JSON object of `spaces_to_json`, which may come from elsewhere.

    Raises:
        SpaceError: not such an object.
        ConfigError: groups that do not fit the agents.
    """
    agents: list[AgentSpec] = []
    numbers = 0
    try:
        for a in data["agents"]:
            observation, action = space_from_json(a["observation"]), space_from_json(a["action"])
            agents.append(AgentSpec(str(a["agent_id"]), observation, action, bool(a["masked"])))
            numbers += sum(s.width for s in (observation, action) if isinstance(s, Box))
            if numbers > MAX_NUMBERS:
                raise SpaceError(f"spaces: more than {MAX_NUMBERS} numbers in the Boxes of all agents")
        asynchronous = bool(data["asynchronous"])
        groups: Mapping[str, list[str]] = {str(g): [str(a) for a in ids] for g, ids in data["groups"].items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise SpaceError(
            f"spaces: {type(exc).__name__} {exc}, expected agents and groups as covey writes them"
        ) from exc
    return EnvironmentSpaces.build(agents, groups, asynchronous=asynchronous)
