"""Encodes observations for networks: from their own dtype to float32 numbers, discrete values as one-hot vectors.

Box: flattened; integers with finite bounds (pixels, boards) are mapped to [0, 1]. Discrete and MultiDiscrete: one-hot
vectors. MultiBinary: as it is. Dict and Tuple: the encodings of their leaves, one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.spaces import Box, Discrete, LeafSpace, MultiDiscrete, Space, leaf_arrays, leaves


@dataclass(frozen=True, slots=True, eq=False)
class LeafEncoding:
    """How observations of one space that is no tree are encoded; the learner computes the same with torch.

    Attributes:
        numbers: How many numbers an observation is stored as.
        width: How many numbers a network reads.
        low: (numbers,), subtracted from each number; None where nothing is.
        scale: (numbers,), by which the differences are multiplied; None where they are not.
        values: (width,), for one-hot encodings: output j is 1 where number `place[j]` equals `values[j]`, else 0; None
            for other encodings. For example, a MultiDiscrete of 2 and 3 choices has values 0, 1, 0, 1, 2.
        place: (width,), which number decides each output; 0, 0, 1, 1, 1 in the example. None without `values`.
    """

    numbers: int
    width: int
    low: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    values: NDArray[np.int64] | None = None
    place: NDArray[np.int64] | None = None

    @staticmethod
    def of(space: LeafSpace) -> LeafEncoding:
        """Return how observations of a space are encoded for networks."""
        match space:
            case Discrete(n, start):
                return LeafEncoding(1, n, values=np.arange(start, start + n), place=np.zeros(n, np.int64))
            case MultiDiscrete(nvec, _, start):
                values = np.concatenate([np.arange(first, first + n) for first, n in zip(start, nvec, strict=True)])
                place = np.repeat(np.arange(len(nvec)), nvec)
                return LeafEncoding(len(nvec), sum(nvec), values=values, place=place)
            case Box():
                low, high = np.asarray(space.low), np.asarray(space.high)
                span = high - low
                if np.dtype(space.dtype).kind not in "iu" or not np.isfinite(span).all() or (span <= 1).all():
                    return LeafEncoding(space.width, space.width)
                scale = 1 / np.maximum(span, 1)
                return LeafEncoding(
                    space.width, space.width, low=low.astype(np.float32), scale=scale.astype(np.float32)
                )
        return LeafEncoding(space.width, space.width)

    @property
    def plain(self) -> bool:
        """Whether encoding does nothing but convert the dtype to float32."""
        return self.scale is None and self.values is None

    def encode(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Encode observations (..., numbers) in their own dtype; returns (..., width) float32."""
        if self.values is not None:
            chosen: NDArray[np.float32] = np.equal(x[..., self.place], self.values).astype(np.float32)
            return chosen
        y = x.astype(np.float32)
        if self.low is not None and self.scale is not None:
            y -= self.low
            y *= self.scale
        return y


class ObservationEncoding:
    """Encodes observations of any space: those of a tree leaf by leaf, one after another.

    Args:
        space: The observation space.

    Attributes:
        width: How many numbers a network reads.
        plain: Whether encoding does nothing but convert the dtype to float32.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._leaves = [LeafEncoding.of(leaf.space) for leaf in leaves(space)]
        self.width = space.width
        self.plain = isinstance(space, LeafSpace) and self._leaves[0].plain

    @staticmethod
    def of(space: Space) -> ObservationEncoding:
        """Return how observations of a space are encoded for networks."""
        return ObservationEncoding(space)

    def encode(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Encode flattened observations (..., numbers), or structured ones (..., 1); returns (..., width) float32."""
        if isinstance(self._space, LeafSpace):
            return self._leaves[0].encode(x)
        lead = x.shape[:-1]
        parts = [
            encoding.encode(leaf.reshape(*lead, -1))
            for encoding, leaf in zip(self._leaves, leaf_arrays(self._space, x), strict=True)
        ]
        return np.concatenate(parts, axis=-1)
