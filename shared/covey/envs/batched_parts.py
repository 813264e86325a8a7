"""Several batched environments as one: those of training and of evaluation, where these have other arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.envs.batched import BatchedSlots
from covey.envs.slots import BatchedEnvironment, Fault
from covey.spaces import EnvironmentSpaces


class BatchedParts:
    """Batched environments that step consecutive slots of the same arrays, each those of its own copies.

    Args:
        parts: The environments, each with the number of its copies: the first one has slots 0 .. n - 1.
        spaces: Their spaces.

    Attributes:
        reset_batch: That of the first environment, for slots of its own; None if it has none.

    Raises:
        EnvironmentLoadError: as of `BatchedSlots`.
    """

    def __init__(self, parts: Sequence[tuple[BatchedEnvironment, int]], spaces: EnvironmentSpaces) -> None:
        self.count = sum(count for _, count in parts)
        self.arrays = SlotArrays.zeros(spaces, self.count)
        self._parts: list[tuple[int, BatchedSlots]] = []
        first = 0
        for env, count in parts:
            self._parts.append((first, BatchedSlots(env, spaces, count, self.arrays.rows(first, first + count))))
            first += count
        self.reset_batch = self._parts[0][1].reset_batch

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each slot given, with its seed; returns a report for each that raised."""
        seed_of = dict(zip(slots, seeds, strict=True))
        faults: list[Fault] = []
        for first, part in self._parts:
            if own := [s for s in slots if first <= s < first + part.count]:
                faults += _moved(part.reset([s - first for s in own], [seed_of[s] for s in own]), first)
        return faults

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step of each slot given; returns a report for each that raised."""
        faults: list[Fault] = []
        for first, part in self._parts:
            end = first + part.count
            if own := [s - first for s in slots if first <= s < end]:
                faults += _moved(part.step(own, [a[first:end] for a in actions]), first)
        return faults

    def close(self) -> None:
        """Close all environments."""
        for _, part in self._parts:
            part.close()


def _moved(faults: Sequence[Fault], first: int) -> list[Fault]:
    """Reports of an environment whose slot 0 is slot `first` of all."""
    return [Fault(fault.slot + first, fault.message) for fault in faults]
