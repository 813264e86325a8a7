"""Normalised observations: which of the numbers that a network reads are, and by which running mean and deviation.

A normalised number x is read as clip((x - mean) / std, -10, 10), with the mean and the standard deviation of all that
the policy's agents have observed in training. Which numbers are follows from the observation space: those of Boxes, but
not of images. Pixels of a known range are mapped to [0, 1] anyway, neighbouring ones should keep their proportions, and
choices are read as one-hot vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.networks.images import is_image
from covey.networks.network import Params
from covey.spaces import Box, LeafSpace, Space, leaves

CLIP = 10.0
"""Standard deviations from the mean beyond which a number is read as if it were there."""

MEAN, SCALE = "observation.mean", "observation.scale"
"""Names, in a policy file and beside a network's parameters, of the means and of 1 / std; float32."""

SMALLEST_STD = 1e-30
"""Numbers that vary less are constant: 1 / std would be no float32."""

Ranges = tuple[tuple[int, int], ...]
"""Parts of an encoded observation: where each begins, and where it ends (excluded)."""


def is_normalised(space: LeafSpace) -> bool:
    """Whether observations of a space without parts are normalised where a policy normalises: Boxes but no images."""
    return isinstance(space, Box) and not is_image(space)


def normalised_ranges(space: Space) -> Ranges:
    """Return which of the numbers of an encoded observation are normalised, neighbouring parts as one.

    Example: a dictionary of a Box of 3 numbers, a Discrete of 4 values and a Box of 2 gives ((0, 3), (7, 9)).
    """
    found: list[tuple[int, int]] = []
    at = 0
    for leaf in leaves(space):
        end = at + leaf.space.width
        if is_normalised(leaf.space) and end > at:
            if found and found[-1][1] == at:
                found[-1] = found[-1][0], end
            else:
                found.append((at, end))
        at = end
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean and variance of samples of n numbers, of which two can be joined as if all had been seen together.

    Nothing changes its arrays. Sums are kept in float64, whatever the numbers are.

    Attributes:
        count: Number of samples.
        mean: (n,) float64, 0 before the first sample.
        squares: (n,) float64, sum of the squared differences from the mean; divided by `count`, the variance.
    """

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @staticmethod
    def none(numbers: int) -> Moments:
        """Return the moments of no samples of so many numbers."""
        return Moments(0, np.zeros(numbers), np.zeros(numbers))

    @staticmethod
    def of(samples: NDArray[Any]) -> Moments:
        """Return the moments of samples, (samples, numbers)."""
        if not len(samples):
            return Moments.none(samples.shape[1])
        values = np.asarray(samples, np.float64)
        mean = values.mean(0)
        return Moments(len(values), mean, np.square(values - mean).sum(0))

    def joined(self, other: Moments) -> Moments:
        """Return the moments of these samples and others together (Chan, Golub and LeVeque, 1979).

        With n = n_a + n_b and d = mean_b - mean_a, mean = mean_a + d n_b / n and
        squares = squares_a + squares_b + d^2 n_a n_b / n.
        """
        if not other.count:
            return self
        if not self.count:
            return other
        count = self.count + other.count
        share = other.count / count
        change = other.mean - self.mean
        squares = self.squares + other.squares + np.square(change) * (self.count * share)
        return Moments(count, self.mean + change * share, squares)

    @property
    def scale(self) -> NDArray[np.float64]:
        """1 / std of each number; 1 for one that has not varied, or by less than float32 tells apart."""
        std = np.sqrt(self.squares / max(1, self.count))
        constant = std <= np.maximum(np.finfo(np.float32).eps * np.abs(self.mean), SMALLEST_STD)
        return 1 / np.where(constant, 1.0, std)

    def tensors(self) -> Params:
        """Return what a policy reads by, as its file has it: `MEAN` and `SCALE`, (n,) float32 each."""
        return {MEAN: self.mean.astype(np.float32), SCALE: self.scale.astype(np.float32)}

    def to_json(self) -> dict[str, Any]:
        """Return the moments as JSON, which holds them exactly."""
        return {"count": self.count, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Moments:
        """Read what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        mean, squares = (np.array(data[name], np.float64) for name in ("mean", "squares"))
        if mean.ndim != 1 or mean.shape != squares.shape or not np.isfinite([mean, squares]).all():
            raise ValueError(f"moments of {mean.shape} and {squares.shape} numbers, expected as many finite ones")
        return Moments(int(data["count"]), mean, squares)
