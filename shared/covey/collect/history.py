"""Records what environments showed and what agents did, step by step, until it is packed for sending.

One copy of all memory a step costs less than putting any array in its place; where the numbers belong is worked out for
many steps at once.

Dims: T steps since `begin`, S slots, N agents of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays

MOST_STEPS = 64
MOST_BYTES = 4 << 20


class History:
    """Copies of all environments' arrays (observations, rewards, ...): one before the first step and one after each.

    `_copies.memory` has a row for each of these moments: row t is what the environments showed before step t, and
    row t + 1 what came of it. So T steps take T + 1 rows, and "before" and "after" are two views of the same rows.

    Attributes:
        capacity: Steps that can be recorded from one `begin` to the next.
    """

    def __init__(self, arrays: SlotArrays) -> None:
        self.capacity = min(MOST_STEPS, max(1, MOST_BYTES // arrays.memory.size))
        self._now = arrays.memory
        self._copies = arrays.over_time(self.capacity + 1)
        self._decided: list[Sequence[NDArray[Any]]] = []

    def begin(self) -> None:
        """Start a new recording; what the environments show now precedes the first step to come."""
        self._decided = []
        self._copies.memory[0] = self._now

    def add(self, action: Sequence[NDArray[Any]]) -> None:
        """Record an env step that was just made.

        `action` has one array (environments, agents of the group, ...) a group.
        """
        self._decided.append(action)
        self._copies.memory[len(self._decided)] = self._now

    def before(self, steps: int) -> SlotArrays:
        """Return the environments' arrays before each of the first `steps` recorded steps, with a time axis first."""
        return self._copies.each(lambda a: a[:steps])

    def after(self, steps: int) -> SlotArrays:
        """Return the environments' arrays after each of the first `steps` recorded steps, with a time axis first."""
        return self._copies.each(lambda a: a[1 : steps + 1])

    def at(self, step: int) -> SlotArrays:
        """Return the environments' arrays before one recorded step, which is also after the step before it."""
        return self._copies.at(step)

    def actions(self, steps: int) -> list[NDArray[Any]]:
        """Return the actions of the first `steps` recorded steps: per group (steps, environments, agents, *shape)."""
        return [np.concatenate(a).reshape(len(a), *a[0].shape) for a in zip(*self._decided[:steps], strict=True)]
