"""Who is nearest: what agents see under partial observability.

Dims: S copies, N agents, M others, n nearest of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covey.envs.mpe.world import Floats, length

Order = NDArray[np.intp]


def keep_nearest(away: Floats, n: int | None) -> tuple[Floats, Order | None]:
    """Keep the n nearest of M others that are `away` (N, M, 2, S), nearest first; None: all as they are.

    Returns:
        Where they are (N, n, 2, S), zeros where there are fewer than n, and the order for `take`; None: all.
    """
    if n is None:
        return away, None
    order = np.argsort(length(away), axis=1, kind="stable")[:, :n, None]
    return take(away, order, n), order


def take(values: Floats, order: Order, n: int) -> Floats:
    """Take values (N, M, 2, S) in the order that `keep_nearest` gave, with zeros up to n: (N, n, 2, S)."""
    taken = np.take_along_axis(values, order, axis=1)
    missing = n - taken.shape[1]
    return np.pad(taken, ((0, 0), (0, missing), (0, 0), (0, 0))) if missing else taken
