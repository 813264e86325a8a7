"""Converts spaces to JSON objects and back, exactly, for checkpoints and policy files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from covey.errors import SpaceError
from covey.spaces import AgentSpec, Box, DictSpace, EnvironmentSpaces, Space, TupleSpace, leaves
from covey.wire.limits import MAX_NUMBERS
from covey.wire.space_fields import space_fields, space_from_parts

_BOUNDS = ("low", "high")


def float_to_json(value: float) -> float | str:
    """Return a number as it is, or one of the texts "inf", "-inf", "nan", for which JSON has no numbers."""
    return value if math.isfinite(value) else str(float(value))


def float_from_json(value: Any) -> float:
    """Read a number from JSON, also from one of the texts "inf", "-inf", "nan".

    Raises:
        ValueError, TypeError: no number.
    """
    return float(value)


def space_to_json(space: Space) -> dict[str, Any]:
    """Convert a space to a JSON object; bounds that are all equal are written once."""
    kind, fields = space_fields(space)
    if isinstance(space, DictSpace):
        return {"kind": kind, "entries": [[name, space_to_json(entry)] for name, entry in space.entries]}
    if isinstance(space, TupleSpace):
        return {"kind": kind, "entries": [space_to_json(entry) for entry in space.entries]}
    return {"kind": kind} | {
        name: [float_to_json(b) for b in value] if name in _BOUNDS else value for name, value in fields.items()
    }


def space_from_json(data: Any) -> Space:
    """Make a space from its JSON object, which may come from elsewhere and is checked.

    Raises:
        SpaceError: not such an object.
    """
    try:
        return space_from_parts(data, _parts, "space")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise SpaceError(f"space: {type(exc).__name__} {exc}, expected a space as covey writes it") from exc


def _parts(data: Any) -> tuple[str, Mapping[str, Any]]:
    """Return kind and fields of a space's JSON object; `entries` of a tree are pairs of a name and an object."""
    kind = data["kind"]
    if kind == "tuple":
        return kind, {"entries": [(str(i), entry) for i, entry in enumerate(data["entries"])]}
    return kind, data


def spaces_to_json(spaces: EnvironmentSpaces) -> dict[str, Any]:
    """Convert an environment's agents, in order, their spaces and their groups to a JSON object."""
    beside: dict[str, Any] = {}  # what most environments do not have
    if spaces.frame_stack > 1:
        beside["frame_stack"] = spaces.frame_stack
    if spaces.state is not None:
        beside["state"] = space_to_json(spaces.state)
    return beside | {
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
    """Make an environment's agents, spaces and groups from their JSON object, which is checked.

    Raises:
        SpaceError: not such an object.
        ConfigError: groups that do not fit the agents.
    """
    agents: list[AgentSpec] = []
    try:
        frames = int(data.get("frame_stack", 1))
        state = space_from_json(data["state"]) if "state" in data else None
        if not isinstance(state, Box | None):
            raise SpaceError(f"spaces: state {state}, expected a Box")
        numbers = 0 if state is None else state.width
        for a in data["agents"]:
            observation, action = space_from_json(a["observation"]), space_from_json(a["action"])
            agents.append(AgentSpec(str(a["agent_id"]), observation, action, bool(a["masked"])))
            arrays = (leaf.space for s in (observation, action) for leaf in leaves(s))
            numbers += frames * sum(s.width for s in arrays if isinstance(s, Box))
            if numbers > MAX_NUMBERS:
                raise SpaceError(f"spaces: more than {MAX_NUMBERS} numbers in the Boxes of all agents")
        asynchronous = bool(data["asynchronous"])
        groups: Mapping[str, list[str]] = {str(g): [str(a) for a in ids] for g, ids in data["groups"].items()}
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as exc:
        raise SpaceError(
            f"spaces: {type(exc).__name__} {exc}, expected agents and groups as covey writes them"
        ) from exc
    return EnvironmentSpaces.build(agents, groups, asynchronous=asynchronous, frame_stack=frames, state=state)
