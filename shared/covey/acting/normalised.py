"""Normalises what stacked policies read, each by the statistics in its own file.

Dims: K policies of a group of agents, B observations of each, R numbers from the first that is normalised to the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covey.networks import Params
from covey.networks.normalisation import CLIP, MEAN, SCALE
from covey.wire.policy_file import PolicySpec


class Normalised:
    """Normalises observations in place, again and again; policies that do not normalise read theirs as they are.

    The operations and their order are those of the learner, in float32: both read the same numbers to the bit.

    Args:
        policies: Description and parameters of each of the K policies, at least one of which normalises.
        x: (K, B, width), the encoded observations; read and written by each call.
    """

    def __init__(self, policies: Sequence[tuple[PolicySpec, Params]], x: NDArray[np.float32]) -> None:
        ranges = [part for spec, _ in policies for part in spec.normalized]
        first, last = min(start for start, _ in ranges), max(end for _, end in ranges)
        self._x = x[..., first:last]
        shape = len(policies), 1, last - first
        self._mean, self._scale = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        self._limit = np.full(shape, np.inf, np.float32)
        for k, (spec, params) in enumerate(policies):
            at = 0
            for start, end in spec.normalized:
                columns, numbers = slice(start - first, end - first), slice(at, at + end - start)
                self._mean[k, 0, columns] = params[MEAN][numbers]
                self._scale[k, 0, columns] = params[SCALE][numbers]
                self._limit[k, 0, columns] = CLIP
                at += end - start
        self._lowest = -self._limit

    def __call__(self) -> None:
        """Normalise what the observations hold now."""
        x = self._x
        x -= self._mean
        x *= self._scale
        np.minimum(x, self._limit, out=x)
        np.maximum(x, self._lowest, out=x)
