"""Keeps the last observations of all agents joined, for policies that read several of them (`environment.frame_stack`).

Environments show, and rows hold, one observation ("frame") at a time. In an episode's first env steps its first frame
stands for those before it.

Dims: S slots, n agents of a group, N frames of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.spaces import EnvironmentSpaces, frames_of, leaf_arrays, leaves


class FrameStacks:
    """The last N observations of all agents in S environments, joined as `covey.spaces.join_frames` does.

    Args:
        spaces: Spaces of the environment; `frame_stack` is N.
        slots: Number of environments, S.

    Attributes:
        stacked: One (S, n, *shape of a stack) per group, which the next call changes.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self._groups, self._frames = spaces.groups, spaces.frame_stack
        self.stacked = [np.zeros((slots, len(g), *g.stacked.shape), g.stacked.dtype) for g in spaces.groups]
        # Per group and leaf the same memory by frames: (S, n, numbers before, N, numbers after).
        self._apart = [
            [
                frames_of(leaf.space, stack, self._frames)
                for leaf, stack in zip(leaves(g.observation), leaf_arrays(g.stacked, stacked), strict=True)
            ]
            for g, stacked in zip(spaces.groups, self.stacked, strict=True)
        ]
        self._earlier = np.zeros(slots, np.int64)  # frames of the running episode in the stack, without the newest

    def begin(self, observation: Sequence[NDArray[Any]], slots: Sequence[int]) -> None:
        """Fill the stacks of these environments with their episodes' first observations.

        Args:
            observation: What all environments show, one (S, n, *shape) per group.
            slots: In which of them episodes begin.
        """
        at = list(slots)
        for stack, frame in self._pairs(observation, at):
            stack[at] = frame
        self._earlier[at] = 0

    def push(self, observation: Sequence[NDArray[Any]], slots: Any) -> None:
        """Append what these environments show after an env step to their stacks, whose oldest frames are dropped.

        Args:
            observation: What all environments show, one (S, n, *shape) per group.
            slots: An index into the environments that made a step: a slice, an array or a list.
        """
        for stack, frame in self._pairs(observation, slots):
            stack[slots, ..., :-1, :] = stack[slots, ..., 1:, :]
            stack[slots, ..., -1:, :] = frame
        self._earlier[slots] = np.minimum(self._earlier[slots] + 1, self._frames - 1)

    def earlier(self, slot: int) -> list[NDArray[Any]]:
        """Return the frames before an environment's newest one, of its running episode alone, oldest first.

        Returns:
            Per group (k, n, *shape of one observation), k at most N - 1.
        """
        k = int(self._earlier[slot])
        kept = slice(self._frames - 1 - k, self._frames - 1)
        found = []
        for g, stacks in zip(self._groups, self._apart, strict=True):
            frames = np.zeros((k, len(g), *g.observation.shape), g.observation.dtype)
            for part, stack in zip(leaf_arrays(g.observation, frames), stacks, strict=True):
                part[...] = np.moveaxis(stack[slot, ..., kept, :], -2, 0).reshape(part.shape)
            found.append(frames)
        return found

    def _pairs(self, observation: Sequence[NDArray[Any]], slots: Any) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Return each leaf's stacks by frames, and these slots' newest frames: (slots, n, before, 1, after)."""
        pairs = []
        for g, stacks, seen in zip(self._groups, self._apart, observation, strict=True):
            for stack, frame in zip(stacks, leaf_arrays(g.observation, seen), strict=True):
                newest = frame[slots]
                pairs.append((stack, newest.reshape(*newest.shape[:2], stack.shape[2], 1, stack.shape[4])))
        return pairs
