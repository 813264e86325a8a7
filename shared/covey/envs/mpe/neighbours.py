"""Who is nearest: what agents see under partial observability.

Dims: S copies, N agents, M others, n nearest of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covey.envs.mpe.world import Floats, length


def nearest(away: Floats, n: int) -> NDArray[np.intp]:
    """Of M others that are `away` (N, M, 2, S), the indices of up to n nearest, nearest first: (N, n, 1, S)."""
    return np.argsort(length(away), axis=1, kind="stable")[:, :n, None]


def take(values: Floats, order: NDArray[np.intp] | None, n: int | None) -> Floats:
    """Take values (N, M, 2, S) in an order as of `nearest`, and zeros where there are fewer than n: (N, n, 2, S).

    Without an order all are returned as they are.
    """
    if order is None or n is None:
        return values
    taken = np.take_along_axis(values, order, axis=1)
    missing = n - taken.shape[1]
    return np.pad(taken, ((0, 0), (0, missing), (0, 0), (0, 0))) if missing else taken
