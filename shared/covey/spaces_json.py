"""Spaces as JSON, exact both ways: what checkpoints and policy files hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from covey.errors import SpaceError
from covey.spaces import (
    DTYPES,
    MAX_DIMS,
    MAX_NUMBERS,
    AgentSpec,
    Box,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    Space,
)


def float_to_json(value: float) -> float | str:
    """A number, or "inf", "-inf", "nan": JSON has no words for them."""
    return value if math.isfinite(value) else str(float(value))


def float_from_json(value: Any) -> float:
    """Inverse of `float_to_json`.

    Raises:
        ValueError, TypeError: no number.
    """
    return float(value)


def space_to_json(space: Space) -> dict[str, Any]:
    """A JSON object from which `space_from_json` makes an equal space; equal bounds are written once."""
    if isinstance(space, Discrete):
        return {"kind": "discrete", "n": space.n, "start": space.start}
    if isinstance(space, MultiDiscrete):
        return {"kind": "multi_discrete", "nvec": list(space.nvec)}
    if isinstance(space, MultiBinary):
        return {"kind": "multi_binary", "n": space.n}
    return {
        "kind": "box",
        "dtype": space.dtype,
        "shape": list(space.shape),
        "low": _bounds(space.low),
        "high": _bounds(space.high),
    }


def _bounds(values: Sequence[float]) -> list[float | str]:
    """One number where all are the same, told apart to the sign of zero."""
    # repr: 0.0 == -0.0, and a round trip shall be exact.
    return [float_to_json(v) for v in (values[:1] if len({repr(v) for v in values}) == 1 else values)]


def space_from_json(data: Any) -> Space:
    """Inverse of `space_to_json`, for text that may come from elsewhere.

    Raises:
        SpaceError: not such an object.
    """
    try:
        if data["kind"] == "discrete":
            space = Discrete(int(data["n"]), int(data["start"]))
            if not 1 <= space.n <= MAX_NUMBERS or not -(1 << 63) <= space.start <= (1 << 63) - space.n:
                raise ValueError(f"{space.n} values, expected 1 to {MAX_NUMBERS} that an int64 can hold")
            return space
        if data["kind"] == "multi_discrete":
            nvec = tuple(int(n) for n in data["nvec"])
            if not nvec or min(nvec) < 1 or sum(nvec) > MAX_NUMBERS:
                raise ValueError(f"nvec {nvec[:8]}, expected numbers of at least 1 that sum up to {MAX_NUMBERS}")
            return MultiDiscrete(nvec)
        if data["kind"] == "multi_binary":
            if not 1 <= int(data["n"]) <= MAX_NUMBERS:
                raise ValueError(f"n is {data['n']}, expected 1 to {MAX_NUMBERS}")
            return MultiBinary(int(data["n"]))
        if data["kind"] != "box":
            raise ValueError(f"kind {data['kind']!r}, expected box, discrete, multi_discrete or multi_binary")
        dtype, shape = data["dtype"], tuple(int(n) for n in data["shape"])
        if dtype not in DTYPES or len(shape) > MAX_DIMS or min(shape, default=1) < 1 or math.prod(shape) > MAX_NUMBERS:
            raise ValueError(
                f"{dtype} {shape}, expected numbers, and at most {MAX_DIMS} sizes from 1 on with a product up to "
                f"{MAX_NUMBERS}"
            )
        low, high = (tuple(float_from_json(v) for v in data[key]) for key in ("low", "high"))
        width = math.prod(shape)
        if {len(low), len(high)} - {1, width}:
            raise ValueError(f"{len(low)} and {len(high)} bounds, expected 1 or {width}")
        if not np.less_equal(low, high).all():
            raise ValueError("a lower bound is above its upper bound or not a number")
        low, high = (bounds * (width if len(bounds) == 1 else 1) for bounds in (low, high))
        return Box(dtype, shape, low, high)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise SpaceError(f"space: {type(exc).__name__} {exc}, expected a space as covey writes it") from exc


def spaces_to_json(spaces: EnvironmentSpaces) -> dict[str, Any]:
    """Agents in environment order with their spaces, and groups by id."""
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
    """Inverse of `spaces_to_json`, for text that may come from elsewhere.

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
