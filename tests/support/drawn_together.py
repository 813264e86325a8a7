"""A batched environment that draws the episodes of many slots from one seed, and notes how each episode was begun."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tests.support.environments import BatchedCounter

from covey.envs import Fault


class DrawnTogether(BatchedCounter):
    """Copies of the counter: observations begin with the seed, which `reset_batch` draws for each slot.

    Args:
        num_envs: Copies.
        length: Env steps of an episode.
        notes: A file to which every reset adds a line, the number of copies and "exact SLOT=SEED ..." or "joint SEED
            SLOT ..."; "" for none.
        failing: A slot whose joint resets raise; -1 for none.
    """

    def __init__(self, num_envs: int, length: int, notes: str = "", failing: int = -1) -> None:
        super().__init__(num_envs, length, 0)
        self._notes, self._failing = notes, failing
        self.calls: list[str] = []

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        self._note("exact", *(f"{slot}={seed}" for slot, seed in zip(slots, seeds, strict=True)))
        return super().reset(slots, seeds)

    def reset_batch(self, slots: Sequence[int], seed: int) -> list[Fault]:
        self._note("joint", str(seed), *map(str, slots))
        drawn = np.random.default_rng(seed).integers(0, 65536, len(slots)).tolist()
        super().reset(slots, drawn)
        return [Fault(slot, "ValueError: no map") for slot in slots if slot == self._failing]

    def _note(self, *words: str) -> None:
        self.calls.append(" ".join(words))
        if self._notes:
            with Path(self._notes).open("a") as file:
                file.write(f"{self.count} {self.calls[-1]}\n")


def drawn_together(num_envs: int, length: int = 4, notes: str = "") -> DrawnTogether:
    """A fresh batch."""
    return DrawnTogether(num_envs, length, notes)
