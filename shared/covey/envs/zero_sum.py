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


def who_counts(agent_ids: Sequence[str]) -> str:
    """What to say of the agents of a zero-sum game, as the sum of their returns tells no member from another."""
    return (
        f"name the agents whose returns count, such as fitness.agents: [{agent_ids[0]}], or who plays against them, "
        f"such as fitness.opponents: {{{agent_ids[-1]}: random}}"
    )
