"""Frame stacks: an agent's last N observations ("frames"), oldest first, joined into one that its networks read.

Images are joined on the axis of their channels: (H, W) becomes (N, H, W), (C, H, W) becomes (N * C, H, W), and
(H, W, C) becomes (H, W, N * C). Everything else is joined on its first axis, so that vectors lie one after another. Of
a Dict or Tuple each leaf is stacked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.spaces.kinds import Box, DictSpace, Discrete, LeafSpace, MultiBinary, MultiDiscrete, Space, TupleSpace

MOST_FRAMES = 16
"""Most frames of a stack."""


def has_channels_first(shape: tuple[int, int, int]) -> bool:
    """Whether an array of three axes, read as an image, has its channels on the first axis; else on the last.

    Two neighbouring axes of one length are height and width; otherwise the shorter of the first and the last axis has
    the channels, the last one in doubt.
    """
    a, b, c = shape
    return a < c if (a == b) == (b == c) else b == c


def numbers_before_frames(space: LeafSpace) -> int:
    """Return how many times the frames of a stack alternate: pixels where channels are last, otherwise 1.

    A stack in row-major order is (this many, frames, the rest of a frame's numbers).
    """
    return math.prod(space.shape[:2]) if _has_channels_last(space) else 1


def stacked_space(space: Space, frames: int) -> Space:
    """Return the space of stacks of so many observations; of one, the space itself."""
    if frames == 1:
        return space
    match space:
        case DictSpace(entries):
            return DictSpace(tuple((name, stacked_space(entry, frames)) for name, entry in entries))
        case TupleSpace(elements):
            return TupleSpace(tuple(stacked_space(element, frames) for element in elements))
        case Discrete(n, start):
            return MultiDiscrete((n,) * frames, start=(start,) * frames)
        case MultiDiscrete(nvec, _, start):
            return MultiDiscrete(nvec * frames, _stacked_shape(space, frames), start * frames)
        case MultiBinary(n):
            return MultiBinary(n * frames, _stacked_shape(space, frames))
        case Box(dtype):
            low, high = (
                tuple(join_frames(space, np.tile(np.reshape(b, space.shape), (frames, *(1,) * len(space.shape)))).flat)
                for b in (np.asarray(space.low, np.float64), np.asarray(space.high, np.float64))
            )
            return Box(dtype, _stacked_shape(space, frames), tuple(map(float, low)), tuple(map(float, high)))


def join_frames(space: LeafSpace, frames: NDArray[Any]) -> NDArray[Any]:
    """Join N observations each, (N, ..., *shape of one), oldest first, to stacks (..., *shape of a stack)."""
    lead = frames.shape[1 : frames.ndim - len(space.shape)]
    apart = np.moveaxis(frames.reshape(len(frames), *lead, *_split(space)), 0, -2)
    return apart.reshape(*lead, *_stacked_shape(space, len(frames)))


def frames_of(space: LeafSpace, stacks: NDArray[Any], frames: int) -> NDArray[Any]:
    """Return a view of stacks (..., *shape of a stack) by frames: (..., numbers before, frames, numbers after)."""
    lead = stacks.shape[: stacks.ndim - len(_stacked_shape(space, frames))]
    before, after = _split(space)
    return stacks.reshape(*lead, before, frames, after)


def _has_channels_last(space: LeafSpace) -> bool:
    match space:
        case Box(_, (a, b, c)):
            return not has_channels_first((a, b, c))
    return False


def _split(space: LeafSpace) -> tuple[int, int]:
    """Return how many numbers of a frame lie on the axes before that on which frames are joined, and on the others."""
    before = numbers_before_frames(space)
    return before, math.prod(space.shape) // max(1, before)


def _stacked_shape(space: LeafSpace, frames: int) -> tuple[int, ...]:
    """Return the shape of a stack of so many observations."""
    shape = space.shape
    if frames == 1:
        return shape
    if _has_channels_last(space):
        return (*shape[:-1], frames * sum(shape[-1:]))
    if not shape or (len(shape) == 2 and isinstance(space, Box)):
        return (frames, *shape)
    return (frames * shape[0], *shape[1:])
