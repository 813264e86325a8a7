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
        ends = np.cumsum([len(group) for group in spaces.groups]).tolist()
        self._columns = [slice(end - len(group), end) for end, group in zip(ends, spaces.groups, strict=True)]
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
        for k, (g, leaf) in enumerate(self._bounds.leaves):
            low, high = self._bounds.low[k], self._bounds.high[k]
            if low is None or high is None or not self._left:
                continue
            observations = arrays.observation[g][leaf.name] if leaf.path else arrays.observation[g]
            found = self._bounds.outside(k, observations, arrays.present[..., self._columns[g]])
            if found is None:
                continue
            values, outside = found
            for n in np.flatnonzero(outside.any(axis=(0, 2))).tolist():
                numbers = np.flatnonzero(outside[:, n].any(axis=0))
                first = int(numbers[0])
                value = float(values[outside[:, n, first].argmax(), n, first])
                others = f" (and {len(numbers) - 1} of its other numbers)" if len(numbers) > 1 else ""
                sentences.append(self._bounds.sentence(k, n, first, value) + others)
                # What was told once is not looked for again.
                low[n, numbers], high[n, numbers] = -np.inf, np.inf
        sentences = sentences[: self._left]
        self._left -= len(sentences)
        return sentences
