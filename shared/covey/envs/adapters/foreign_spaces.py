"""Spaces of other packages (the old gym, JaxMARL, plain lists) as gymnasium's."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


def as_gymnasium(space: Any) -> Any:
    """A space as gymnasium's, by the name of its class; what no name tells is returned as it is."""
    spaces = gymnasium.spaces
    if isinstance(space, gymnasium.Space):
        return space
    if isinstance(space, list | tuple):
        return spaces.Tuple([as_gymnasium(inner) for inner in space])
    match type(space).__name__:
        case "Box":
            shape, dtype = tuple(space.shape), np.dtype(space.dtype)
            low, high = (np.broadcast_to(np.asarray(b, dtype), shape) for b in (space.low, space.high))
            return spaces.Box(low, high, shape, dtype.type)
        case "Discrete":
            return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
        case "MultiDiscrete":
            counts = space.nvec if hasattr(space, "nvec") else space.num_categories
            return spaces.MultiDiscrete(np.asarray(counts, np.int64))
        case "MultiBinary":
            return spaces.MultiBinary(space.n)
        case "Tuple":
            return spaces.Tuple([as_gymnasium(inner) for inner in space.spaces])
        case "Dict":
            return spaces.Dict({key: as_gymnasium(inner) for key, inner in space.spaces.items()})
    return space
