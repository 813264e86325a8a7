"""Says once for each agent and number of its observation that an environment leaves the bounds of its own space."""

from __future__ import annotations

import logging

import numpy as np

from covey.envs.arrays import SlotArrays
from covey.envs.observation_bounds import ObservationBounds
from covey.spaces import EnvironmentSpaces

logger = logging.getLogger("covey.envs")

MOST_SENTENCES = 20
"""Of an environment no more is said than this: images have thousands of numbers."""


class OutsideBounds:
    """Watches what copies of an environment show for numbers outside of the observation spaces that it declares.

    Args:
        spaces: Spaces of the environment.
    """

    def __init__(self, spaces: EnvironmentSpaces) -> None:
        self._bounds = ObservationBounds(spaces)
        self._sizes = [len(group) for group in spaces.groups]
        self._left = MOST_SENTENCES

    def tell(self, arrays: SlotArrays) -> None:
        """Log a warning of what `look` finds."""
        for sentence in self.look(arrays):
            logger.warning("environment: %s; it is used as it is, and told once", sentence)

    def look(self, arrays: SlotArrays) -> list[str]:
        """Return a sentence for each agent with numbers that are outside now and never were before.

        Args:
            arrays: What the environments show, with or without a leading axis of time.
        """
        sentences: list[str] = []
        column = 0
        for g, (observations, size) in enumerate(zip(arrays.observation, self._sizes, strict=True)):
            low, high = self._bounds.low[g], self._bounds.high[g]
            present = arrays.present[..., column : column + size]
            column += size
            if low is None or high is None or not self._left:
                continue
            found = self._bounds.outside(g, observations, present)
            if found is None:
                continue
            values, outside = found
            for n in np.flatnonzero(outside.any(axis=(0, 2))).tolist():
                numbers = np.flatnonzero(outside[:, n].any(axis=0))
                first = int(numbers[0])
                value = float(values[outside[:, n, first].argmax(), n, first])
                others = f" (and {len(numbers) - 1} of its other numbers)" if len(numbers) > 1 else ""
                sentences.append(self._bounds.sentence(g, n, first, value) + others)
                # What was told once is not looked for again.
                low[n, numbers], high[n, numbers] = -np.inf, np.inf
        sentences = sentences[: self._left]
        self._left -= len(sentences)
        return sentences
