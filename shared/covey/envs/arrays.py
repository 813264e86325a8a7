"""The arrays that hold what many copies of an environment show: observations, masks, rewards, flags, who acts.

Dims: S slots, A agents, N agents of a group. Where agents share one axis A they stand group by group ("columns"), in
the order of `EnvironmentSpaces.groups` and of each group's agents, so that a group is a slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from covey.spaces import EnvironmentSpaces, mask_width


@dataclass(frozen=True, slots=True)
class SlotArrays:
    """What S copies of an environment ("slots") show, as arrays that each reset and step writes in place.

    N agents of a group, A agents in all.

    Attributes:
        observation: Per group (S, N, *shape). An agent that waits keeps what it saw when it last acted; one that is not
            there has zeros.
        mask: Per group (S, N, mask width), 1 for actions that are legal now; None for groups without masks. An agent
            that waits keeps the mask with which it last acted; one that is not there has zeros.
        forced: Per group (S, N, *action shape): the actions that the environment takes where `present` is FORCED.
        reward: (S, A), rewards of the last step; 0 after a reset, and of agents that are not there.
        terminated: (S, A), 1 for agents that terminated in the last step.
        truncated: (S, A), 1 for agents that were truncated in the last step.
        present: (S, A), an `Active` value: CHOSE (1) is to act in the next step, FORCED (2) acts as the environment
            says, ABSENT (0) waits or is not there.
        living: (S, A), 1 for agents that are in the episode, whether they act now or wait.
        state: (S, *shape), the state of each whole environment; None where it is not asked for.
        memory: The bytes in which all these arrays lie, one after another, of all slots: one copy of it copies all.
    """

    observation: tuple[NDArray[Any], ...]
    mask: tuple[NDArray[np.uint8] | None, ...]
    forced: tuple[NDArray[Any], ...]
    reward: NDArray[np.float64]
    terminated: NDArray[np.uint8]
    truncated: NDArray[np.uint8]
    present: NDArray[np.uint8]
    living: NDArray[np.uint8]
    state: NDArray[Any] | None
    memory: NDArray[np.uint8]

    @staticmethod
    def zeros(spaces: EnvironmentSpaces, count: int) -> SlotArrays:
        """Make arrays of zeros for `count` copies of an environment."""
        return SlotArrays.within(spaces, count, memoryview(bytearray(SlotArrays.size_bytes(spaces, count))))

    @staticmethod
    def size_bytes(spaces: EnvironmentSpaces, count: int) -> int:
        """Return the bytes of the buffer that arrays for `count` copies of an environment need."""
        return sum(_aligned(math.prod(shape) * np.dtype(dtype).itemsize) for dtype, shape in _fields(spaces, count))

    @staticmethod
    def within(spaces: EnvironmentSpaces, count: int, buffer: memoryview) -> SlotArrays:
        """Make arrays for `count` copies of an environment as views of a zeroed buffer, which processes may share."""
        arrays: list[NDArray[Any]] = []
        offset = 0
        for dtype, shape in _fields(spaces, count):
            size = math.prod(shape)
            arrays.append(np.frombuffer(buffer, dtype, size, offset).reshape(shape))
            offset += _aligned(size * np.dtype(dtype).itemsize)
        at = iter(arrays)
        return SlotArrays(
            observation=tuple(next(at) for _ in spaces.groups),
            mask=tuple(next(at) if g.masked else None for g in spaces.groups),
            forced=tuple(next(at) for _ in spaces.groups),
            reward=next(at),
            terminated=next(at),
            truncated=next(at),
            present=next(at),
            living=next(at),
            state=None if spaces.state is None else next(at),
            memory=np.frombuffer(buffer, np.uint8, offset),
        )

    def rows(self, first: int, end: int) -> SlotArrays:
        """Return views of the arrays for the environments `first` to `end` - 1."""
        return self.each(lambda a: a[first:end])

    def copy(self) -> SlotArrays:
        """Copy all arrays as they are now."""
        copied = self.over_time(1)
        copied.memory[0] = self.memory
        return copied.at(0)

    def over_time(self, times: int) -> SlotArrays:
        """Make zeroed arrays with a further leading axis of `times` moments; `memory` is (times, bytes).

        Assigning this object's `memory` to row t of theirs copies everything to time t at once.
        """
        memory = np.zeros((times, self.memory.size), np.uint8)
        start, stride = self.memory.ctypes.data, self.memory.size

        def again(a: NDArray[Any]) -> NDArray[Any]:
            # At the same place in each row of the new memory as in the old one.
            return np.ndarray((times, *a.shape), a.dtype, memory, a.ctypes.data - start, (stride, *a.strides))

        return self.each(again, memory)

    def at(self, time: int) -> SlotArrays:
        """Return views at one moment of arrays that have a leading axis of time."""
        return self.each(lambda a: a[time], self.memory[time])

    def each(
        self, change: Callable[[NDArray[Any]], NDArray[Any]], memory: NDArray[np.uint8] | None = None
    ) -> SlotArrays:
        """Apply `change` to every array; returns the results, with the given `memory` or else this one's."""
        return SlotArrays(
            observation=tuple(map(change, self.observation)),
            mask=tuple(None if m is None else change(m) for m in self.mask),
            forced=tuple(map(change, self.forced)),
            reward=change(self.reward),
            terminated=change(self.terminated),
            truncated=change(self.truncated),
            present=change(self.present),
            living=change(self.living),
            state=None if self.state is None else change(self.state),
            memory=self.memory if memory is None else memory,
        )

    def clear(self, slot: int) -> None:
        """Set everything that one environment shows to zero."""
        for a in (*self.observation, *self.mask, *self.forced, self.reward, self.state):
            if a is not None:
                a[slot] = 0
        for flags in (self.terminated, self.truncated, self.present, self.living):
            flags[slot] = 0


def _fields(spaces: EnvironmentSpaces, count: int) -> Iterator[tuple[DTypeLike, tuple[int, ...]]]:
    """Yield dtype and shape of every array for `count` copies of an environment, in the order of the attributes."""
    agents = (count, len(spaces.agents))
    for g in spaces.groups:
        yield g.observation.dtype, (count, len(g), *g.observation.shape)
    for g in spaces.groups:
        if g.masked:
            yield "uint8", (count, len(g), mask_width(g.action))
    for g in spaces.groups:
        yield g.action.dtype, (count, len(g), *g.action.shape)
    yield "float64", agents
    for _ in range(4):
        yield "uint8", agents
    if spaces.state is not None:
        yield spaces.state.dtype, (count, *spaces.state.shape)


def _aligned(size: int) -> int:
    """Round a size in bytes up to a multiple of 64, the size of a cache line."""
    return -(-size // 64) * 64
