"""What environments showed step by step, and what was decided, until it is put into rows.

One copy of all memory a step costs less than any array put in its place; where the numbers belong is worked out for
many steps at once.
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
    """Of the slots' arrays.

    Attributes:
        room: Steps that can be recorded from one `begin` to the next.
    """

    def __init__(self, arrays: SlotArrays) -> None:
        self.room = min(MOST_STEPS, max(1, MOST_BYTES // arrays.memory.size))
        self._now = arrays.memory
        self._shown = arrays.over_time(self.room + 1)
        self._decided: list[Sequence[NDArray[Any]]] = []

    def begin(self) -> None:
        """Forget what was; what the environments show now precedes the first step."""
        self._decided = []
        self._shown.memory[0] = self._now

    def add(self, action: Sequence[NDArray[Any]]) -> None:
        """A step was made: per group (S, N, *shape), what was decided before; what came of it is shown now."""
        self._decided.append(action)
        self._shown.memory[len(self._decided)] = self._now

    def before(self, first: int, end: int) -> SlotArrays:
        """What was shown before these steps, with a leading axis."""
        return self._shown.each(lambda a: a[first:end])

    def after(self, first: int, end: int) -> SlotArrays:
        """What was shown after them."""
        return self.before(first + 1, end + 1)

    def at(self, step: int) -> SlotArrays:
        """What was shown before one step."""
        return self._shown.at(step)

    def actions(self, first: int, end: int) -> list[NDArray[Any]]:
        """Per group (T, S, N, *shape)."""
        return [np.concatenate(a).reshape(len(a), *a[0].shape) for a in zip(*self._decided[first:end], strict=True)]
