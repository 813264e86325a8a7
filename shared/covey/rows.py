"""The format in which actors send timesteps ("rows") to the learner; proto/README.md, "Rows", explains it.

Dims: R rows of a fragment, N agents of a group.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from covey.errors import FragmentError
from covey.spaces import EnvironmentSpaces, LeafSpace, Space, leaf_arrays, leaves, mask_width

Columns = dict[str, NDArray[np.generic]]
"""Arrays by column name, each (R, *shape of one row)."""

_own = threading.local()
"""Holds each thread's decompressor: a shared one would corrupt memory, and making one for each blob is slow."""

STATE = "state"
"""Column of the state of the whole environment; those of groups have a "/" in their names."""

MAX_ROWS = 1 << 17
"""Rows of a fragment."""

MAX_RAW_BYTES = 32 << 20
"""Bytes of a fragment's rows before compression."""

MAX_FLOAT32 = float(np.finfo(np.float32).max)
"""Largest observed number, either way: networks read float32."""

MAX_SAMPLE_UNITS = 1e6
"""Largest Gaussian sample that is stored, in units of the action range mapped to [-1, 1]; larger ones are clipped."""


def is_number(values: NDArray[Any], most: float) -> NDArray[np.bool_]:
    """Which numbers can be learned from: finite ones, at most so large either way."""
    if values.dtype.kind != "f" or values.dtype == np.float16:  # numpy could not compare float16 with the limit
        values = values.astype(np.float32)
    result: NDArray[np.bool_] = np.abs(values) <= most  # false for NaN
    return result


class RowKind(enum.IntEnum):
    """Kinds of row, that is, of timestep in an actor's message.

    An env step (STEP); the last observation of an episode (FINAL) or of an abandoned one (CUT); where an environment
    stands when the message ends (TAIL); an earlier row repeated because an agent has not acted again since (LEAD_IN);
    an earlier observation of the running episode, repeated because policies read several of them together (CONTEXT).
    """

    STEP = 1  # an env step: observation, action, reward and flags
    FINAL = 2  # the true last observation of an episode
    CUT = 3  # the last observation of an abandoned episode
    TAIL = 4  # where the slot stands when the fragment ends; repeated as the next fragment's first row
    LEAD_IN = 5  # an earlier row, repeated because a decision in it is still open
    CONTEXT = 6  # an earlier observation of the running episode, for stacks of frames; everything else in it is 0


class Active(enum.IntEnum):
    """Whether an agent acts in a timestep: not at all (0), by its own choice (1), or forced by the environment (2)."""

    ABSENT = 0  # the agent is not there, or waits
    CHOSE = 1  # the agent acted (step rows), or is to act here (rows without an action)
    FORCED = 2  # the same, but the environment took the action itself


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the timesteps that an actor sends, such as an observation; `shape` is that of one timestep."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes that one timestep takes in this column."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def leaf_columns(group_id: str, what: str, space: Space) -> list[tuple[str, LeafSpace]]:
    """Return name and space of the columns that hold a group's observations or actions: one for each leaf.

    Args:
        group_id: The group.
        what: "observation" or "action", which is also the whole name if the space is no tree.
        space: The group's observation or action space.
    """
    return [(f"{group_id}/{what}{'.' if leaf.path else ''}{leaf.name}", leaf.space) for leaf in leaves(space)]


def read_leaves(columns: Columns, group_id: str, what: str, space: Space, at: Any = slice(None)) -> NDArray[np.generic]:
    """Return a group's observations or actions as one array, which is structured if the space is a tree.

    Args:
        columns: Arrays by column name.
        group_id: The group.
        what: "observation" or "action".
        space: The group's observation or action space.
        at: Indexes the rows and agents of every column.
    """
    return from_leaves(space, [columns[name][at] for name, _ in leaf_columns(group_id, what, space)])


def from_leaves(space: Space, parts: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Return values of a space, given leaf by leaf, as one array, which is structured if the space is a tree.

    Args:
        space: The space.
        parts: For each leaf an array (..., *leaf's shape).
    """
    if isinstance(space, LeafSpace):
        return parts[0]
    lead = parts[0].shape[: parts[0].ndim - len(leaves(space)[0].space.shape)]
    values = np.zeros(lead, space.dtype)  # not empty: bytes between fields are compared and hashed with them
    for target, part in zip(leaf_arrays(space, values), parts, strict=True):
        target[...] = part
    return values


@dataclass(frozen=True)
class RowSchema:
    """The columns of timesteps ("rows") in an actor's message, in the order in which they are sent.

    First `kind (R,)` for R rows, then for every group of N agents `<group>/` + observation (N, ...), action (N, ...),
    action_mask (N, width) where the group has one, active (N,), reward (N,), terminated (N,), truncated (N,), age (N,).
    Observations and actions that are trees have a column for each leaf, such as `observation.image`. Last `state`
    (R, ...), of the whole environment, where rows have it.
    """

    columns: tuple[Column, ...]

    @staticmethod
    def of(spaces: EnvironmentSpaces) -> RowSchema:
        """Return the columns that an environment with these spaces and groups of agents has."""
        columns = [Column("kind", "uint8", ())]
        for group in spaces.groups:
            n = len(group)
            for what, space in (("observation", group.observation), ("action", group.action)):
                for name, leaf in leaf_columns(group.group_id, what, space):
                    columns.append(Column(name, leaf.dtype, (n, *leaf.shape)))
            mask = (("action_mask", "uint8", (mask_width(group.action),)),) if group.masked else ()
            for name, dtype, shape in (
                *mask,
                ("active", "uint8", ()),
                ("reward", "float32", ()),
                ("terminated", "uint8", ()),
                ("truncated", "uint8", ()),
                ("age", "uint32", ()),
            ):
                columns.append(Column(f"{group.group_id}/{name}", dtype, (n, *shape)))
        if spaces.state is not None:
            columns.append(Column(STATE, spaces.state.dtype, spaces.state.shape))
        return RowSchema(tuple(columns))

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one timestep over all columns, before compression."""
        return sum(c.row_bytes for c in self.columns)

    @cached_property
    def _views(self) -> list[tuple[str, np.dtype[np.generic], tuple[int, ...], int]]:
        """Name, dtype, shape and bytes of one timestep of each column, prepared for decoding."""
        return [(c.name, np.dtype(c.dtype), c.shape, c.row_bytes) for c in self.columns]

    @cached_property
    def hash(self) -> bytes:
        """First 16 bytes of the SHA-256 of the columns as JSON: [[name, dtype, [shape...]], ...]."""
        text = json.dumps([[c.name, c.dtype, list(c.shape)] for c in self.columns], separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()[:16]

    def empty(self, rows: int) -> Columns:
        """Make columns of zeros for this many timesteps."""
        return {c.name: np.zeros((rows, *c.shape), c.dtype) for c in self.columns}

    def encode(self, columns: Mapping[str, NDArray[np.generic]], level: int, behind: bytes = b"") -> tuple[bytes, int]:
        """Compress columns of equal length into bytes; returns these, and their length before compression.

        Args:
            columns: The columns by name.
            level: zstd's.
            behind: What follows the columns: states of policies with memory.
        """
        raw = b"".join([*(np.ascontiguousarray(columns[c.name]).tobytes() for c in self.columns), behind])
        return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(raw), len(raw)

    def decode(self, blob: bytes, rows: int, raw_bytes: int) -> Columns:
        """Decompress an actor's timesteps into read-only arrays by column name, after checking their size."""
        return self.view(self.decompress(blob, rows, raw_bytes), rows)

    def view(self, raw: bytes, rows: int) -> Columns:
        """Return the columns in decompressed bytes, as read-only arrays that share the memory of `raw`."""
        columns: Columns = {}
        offset = 0
        for name, dtype, shape, row_bytes in self._views:
            columns[name] = np.ndarray((rows, *shape), dtype, raw, offset)
            offset += rows * row_bytes
        return columns

    def decompress(self, blob: bytes, rows: int, raw_bytes: int, behind: int = 0) -> bytes:
        """Decompress an actor's timesteps, after checking that they have the claimed size.

        Args:
            blob: One zstd frame.
            rows: How many rows the fragment says it has.
            raw_bytes: How many bytes the fragment says they take.
            behind: How many bytes follow the columns.

        Raises:
            FragmentError: too many rows, sizes that do not agree, or bytes that are no such zstd frame.
        """
        expected = rows * self.row_bytes + behind
        if rows > MAX_ROWS or expected > MAX_RAW_BYTES:
            raise FragmentError("size", f"{rows} rows, {expected} bytes, expected at most {MAX_RAW_BYTES} bytes")
        if raw_bytes != expected:
            raise FragmentError("size", f"raw_bytes {raw_bytes}, expected {expected} for {rows} rows")
        try:
            # Compared before decompressing, which allocates as much as the frame's header claims.
            frame = zstandard.get_frame_parameters(blob)
            claimed = frame.content_size
            if claimed != expected:
                raise FragmentError("size", f"frame holds {claimed} bytes, expected {expected}")
            if not frame.has_checksum:
                raise FragmentError("checksum", "the zstd frame has no checksum, expected one: damage would go unseen")
            if not hasattr(_own, "decompressor"):
                # No honest frame needs a larger window than its content, and a decompressor never frees its window.
                _own.decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_RAW_BYTES)
            raw: bytes = _own.decompressor.decompress(blob, allow_extra_data=False)
        except zstandard.ZstdError as exc:
            raise FragmentError("checksum", f"blob is not an intact zstd frame: {exc}") from exc
        if len(raw) != expected:
            raise FragmentError("size", f"frame gave {len(raw)} bytes, expected {expected}")
        return raw
