"""Finds the observations that a stack of frames joins, among rows that hold one observation each.

A stack is what an agent saw in the last N env steps of the running episode, oldest first. A stream brings what precedes
its own rows in context rows; the first observation of an episode stands for those before it. Example, N = 3:

    row   kind      frames of its stack, as rows
    0     CONTEXT   0 0 0
    1     CONTEXT   0 0 1
    2     STEP      0 1 2
    3     STEP      1 2 3
    4     FINAL     2 3 4
    5     STEP      5 5 5     another episode begins
    6     TAIL      5 5 6

Dims: R rows, V of them that are looked at, N frames of a stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import Columns, RowKind, read_leaves
from covey.spaces import Group, LeafSpace, join_frames, leaf_arrays, leaves
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.rows_in_parts import RowsInParts


def stream_rows(stream: SlotStream) -> int:
    """Return how many rows a stream of a message has, those included that repeat earlier ones."""
    return stream.context_rows + stream.lead_in_rows + stream.rows


def earlier_frames(kind: NDArray[np.uint8], first_rows: Sequence[int], frames: int) -> NDArray[np.uint8]:
    """Return for each row how many rows before it belong to its stack, (R,).

    Args:
        kind: (R,), each row's `covey.rows.RowKind`.
        first_rows: Where streams begin.
        frames: Frames of a stack.
    """
    rows = np.arange(len(kind))
    begins = np.zeros(len(kind), bool)
    begins[list(first_rows)] = True
    begins[1:] |= np.isin(kind[:-1], (RowKind.FINAL, RowKind.CUT))
    first = np.maximum.accumulate(np.where(begins, rows, 0))
    return np.minimum(rows - first, frames - 1).astype(np.uint8)


def frame_rows(earlier: NDArray[np.uint8], rows: NDArray[np.int64], frames: int) -> NDArray[np.int64]:
    """Return the rows whose observations the stacks of V rows join, oldest first: (N, V).

    Args:
        earlier: (R,), as `earlier_frames` gives it.
        rows: (V,), the rows.
        frames: Frames of a stack.
    """
    back = np.arange(frames - 1, -1, -1)[:, None]
    found: NDArray[np.int64] = rows - np.minimum(back, earlier[rows])
    return found


class StackedRows:
    """One agent's stacks of one leaf of its observations, joined where they are read.

    Args:
        source: (R, *leaf's shape), the frames; not copied.
        space: The leaf's space.
        earlier: (R,), as `earlier_frames` gives it.
        frames: Frames of a stack.
    """

    def __init__(
        self, source: NDArray[Any] | RowsInParts, space: LeafSpace, earlier: NDArray[np.uint8], frames: int
    ) -> None:
        self._source, self._space, self._earlier, self._frames = source, space, earlier, frames

    @staticmethod
    def of(
        source: NDArray[Any] | RowsInParts, space: LeafSpace, earlier: NDArray[np.uint8], frames: int
    ) -> NDArray[Any] | RowsInParts | StackedRows:
        """Return what gives the stacks of rows: the source itself where a stack is one frame."""
        return source if frames == 1 else StackedRows(source, space, earlier, frames)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Join the stacks of the rows of these numbers: (V, *shape of a stack)."""
        found = frame_rows(self._earlier, rows, self._frames)
        frames = self._source[found.reshape(-1)]
        return join_frames(self._space, frames.reshape(*found.shape, *frames.shape[1:]))


def read_stacks(columns: Columns, group: Group, agent: int, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return stacks of what an agent saw: (V, *shape of a stack), structured if its observations are a tree.

    Args:
        columns: Arrays by column name.
        group: The agent's group.
        agent: Its index in the group.
        rows: (N, V), the rows of each stack's frames, as `frame_rows` gives them.
    """
    if len(rows) == 1:
        return read_leaves(columns, group.group_id, "observation", group.observation, (rows[0], agent))
    frames = read_leaves(columns, group.group_id, "observation", group.observation, (rows, agent))
    if isinstance(group.observation, LeafSpace):
        return join_frames(group.observation, frames)
    stacks = np.zeros(rows.shape[1], group.stacked.dtype)
    for target, leaf, values in zip(
        leaf_arrays(group.stacked, stacks),
        leaves(group.observation),
        leaf_arrays(group.observation, frames),
        strict=True,
    ):
        target[...] = join_frames(leaf.space, values)
    return stacks
