"""Finds observed numbers that lie outside of the space which their environment declares.

They are used as they are, since many environments exceed their bounds a little. People are told, because a network may
have been sized, or its inputs scaled, for what the space says.

Dims: R observations of each agent, N agents of a group, W numbers of one observation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import Active
from covey.spaces import Box, Discrete, EnvironmentSpaces, LeafSpace, MultiDiscrete, leaves

TOLERANCE = 1e-5
"""How far a number may exceed a bound, relative to the bound or to 1: as much as rounding to float32 does."""


FOLDED_WIDTH = 1024
"""Numbers in a row for which numpy reduces along the first axis at full speed: tenfold that of a row of 54."""


class ObservationBounds:
    """The bounds of every number that agents observe, as their spaces declare them.

    Args:
        spaces: Spaces of the environment.

    Attributes:
        leaves: What is looked at: the position of a group, and a leaf of its observation space.
        low: Per leaf (N, W), the lowest numbers allowed, with tolerance; None where no number has a bound.
        high: Per leaf (N, W), the highest numbers allowed, likewise.
    """

    def __init__(self, spaces: EnvironmentSpaces) -> None:
        self._spaces = spaces
        self.leaves = [(g, leaf) for g, group in enumerate(spaces.groups) for leaf in leaves(group.observation)]
        self.low: list[NDArray[np.float64] | None] = []
        self.high: list[NDArray[np.float64] | None] = []
        self._common: list[tuple[float, float]] = []  # a range that lies within the bounds of every number
        for g, leaf in self.leaves:
            group = spaces.groups[g]
            low, high = _breakable(leaf.space)
            bounded = bool(np.isfinite(low).any() or np.isfinite(high).any())
            low -= TOLERANCE * np.maximum(np.abs(low), 1)
            high += TOLERANCE * np.maximum(np.abs(high), 1)
            self.low.append(np.tile(low, (len(group), 1)) if bounded else None)
            self.high.append(np.tile(high, (len(group), 1)) if bounded else None)
            self._common.append((float(low.max()), float(high.min())))

    def outside(
        self, leaf: int, observations: NDArray[Any], active: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        """Return a leaf's observations and which of their numbers lie outside, (R, N, W) each; None if none does.

        Args:
            leaf: Position in `leaves`.
            observations: (..., N, *shape of the leaf), with any number of axes in front.
            active: (..., N), an `Active` value. Observations by which an agent does not act are left out: where it is
                absent they are zeros.
        """
        low, high = self.low[leaf], self.high[leaf]
        if low is None or high is None or not observations.size:
            return None
        # Usually all numbers lie within the bounds of each, or else the extremes of each within its own; to find that
        # takes a fraction of comparing them all.
        lowest, highest = self._common[leaf]
        if observations.min() >= lowest and observations.max() <= highest:
            return None
        values = observations.reshape(-1, *low.shape)
        if (_extreme(np.minimum, values) >= low).all() and (_extreme(np.maximum, values) <= high).all():
            return None
        where = ((values < low) | (values > high)) & np.not_equal(active, Active.ABSENT).reshape(-1, len(low), 1)
        return (values, where) if where.any() else None

    def sentence(self, leaf: int, member: int, number: int, value: float) -> str:
        """Say which number of an observation is outside of which bounds.

        Args:
            leaf: Position in `leaves`.
            member: Position of the agent in the group.
            number: Position in the flattened leaf.
            value: What was observed.
        """
        group, part = self.leaves[leaf]
        agent = self._spaces.agents[self._spaces.groups[group].agents[member]]
        low, high = (float(ends[number]) for ends in _declared(part.space))
        at = ", ".join(str(i) for i in np.unravel_index(number, part.space.shape or (1,)))
        where = f" at [{at}]" if part.space.shape else ""
        what = f"observation {part.name}" if part.name else "observation"
        return (
            f"{what} of agent {agent.agent_id!r} is {value:.6g}{where}, expected {low:g} to {high:g} as its "
            "observation space says"
        )


def _extreme(reduction: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """Reduce (R, N, W) along the first axis, several rows side by side at once where rows are short."""
    rows, *shape = values.shape
    result: NDArray[Any]
    beside = max(1, min(rows, FOLDED_WIDTH // math.prod(shape)))
    whole = rows - rows % beside
    result = reduction.reduce(values[:whole].reshape(-1, beside * math.prod(shape)))
    result = reduction.reduce(result.reshape(beside, *shape))
    if whole < rows:
        result = reduction(result, reduction.reduce(values[whole:]))
    return result


def _declared(space: LeafSpace) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest numbers of a space, (W,) each."""
    match space:
        case Box():
            return np.array(space.low, np.float64), np.array(space.high, np.float64)
        case Discrete(n, start):
            return np.array([start], np.float64), np.array([start + n - 1], np.float64)
        case MultiDiscrete(nvec, _, starts):
            first = np.asarray(starts, np.float64)
            return first, first + np.asarray(nvec, np.float64) - 1
    return np.zeros(math.prod(space.shape)), np.ones(math.prod(space.shape))


def _breakable(space: LeafSpace) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of a space, with infinity where its element type holds nothing beyond them, as 0 and 255 of uint8."""
    low, high = _declared(space)
    dtype = np.dtype(space.dtype)
    if dtype.kind == "f":
        return low, high
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.where(low <= least, -np.inf, low), np.where(high >= most, np.inf, high)
