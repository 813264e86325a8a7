"""Games in which one side wins what the other loses: how they are told, and what they need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def is_zero_sum(returns: NDArray[np.float64]) -> bool:
    """Whether the agents' returns, (episodes, agents), cancel in every episode, up to rounding; not if all are zero."""
    if not returns.any():
        return False
    return bool(np.abs(returns.sum(axis=1)).max() <= 1e-9 * np.abs(returns).max())


def sides_of(returns: NDArray[np.float64]) -> list[list[int]]:
    """Which agents of a zero-sum game win and lose together: those whose returns are equal in every episode.

    Args:
        returns: (episodes, agents).

    Returns:
        The sides, each as indices of its agents: [[0], [1]] in chess, [[0, 2], [1, 3]] where partners sit crosswise.
    """
    sides: dict[bytes, list[int]] = {}
    for agent, column in enumerate(np.ascontiguousarray(returns.T + 0.0)):  # + 0.0: -0.0 equals 0.0
        sides.setdefault(column.tobytes(), []).append(agent)
    return list(sides.values())


def who_counts(agent_ids: Sequence[str]) -> str:
    """What to advise where members of a zero-sum game play all agents: the sum of returns tells none from another."""
    return (
        f"leave fitness.opponents out, name the agents whose returns count, such as fitness.agents: [{agent_ids[0]}], "
        f"or who plays against them, such as fitness.opponents: {{{agent_ids[-1]}: random}}"
    )
