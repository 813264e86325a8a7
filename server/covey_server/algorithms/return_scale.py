"""Critics that predict returns in units of their own running mean and deviation.

The units follow the returns; a critic's last layer moves against them, so that what it says of returns stays the same
(PopArt: van Hasselt et al., 2016).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from covey_server.member import ReturnScale
from covey_server.packing.pack import Pack

ROUNDS = 10
"""About so many rounds back statistics reach."""

SMALLEST_STD = 1e-2


def updated(scale: ReturnScale, returns: NDArray[np.floating]) -> ReturnScale:
    """Return the running mean and deviation of returns after a rollout with these returns, at least one."""
    rounds = scale.rounds + 1
    share = 1 / min(rounds, ROUNDS)
    change = float(np.mean(returns, dtype=np.float64)) - scale.mean
    spread = float(np.var(returns, dtype=np.float64))
    # Of a mixture: the mean of variances, and the variance of means. The first round knows no units before it.
    variance = (1 - share) * scale.std**2 + share * spread + share * (1 - share) * change**2
    return ReturnScale(scale.mean + share * change, max(math.sqrt(variance), SMALLEST_STD), rounds)


def move_units(pack: Pack, row: int, before: ReturnScale, after: ReturnScale) -> None:
    """Rescale a critic's last layer so that it predicts the same returns in new units.

    before.mean + before.std * y becomes after.mean + after.std * y'.
    """
    params = pack.layout.views(pack.params)
    # Only the first output is the critic's; others are padding.
    params["head.out.weight"][row, :, :1].mul_(before.std / after.std)
    params["head.out.bias"][row, :1].mul_(before.std / after.std).add_((before.mean - after.mean) / after.std)
