"""The replay memory of all off-policy members: actors' messages (fragments) are stored and evicted whole, oldest first.

A fragment is what an actor sends at once: rows of its slots. They lie next to each other, so the next observation of
a step row is the next row and is stored once. So are the frames of a stack: they are the rows before, and joined when
they are drawn. From the first fragment on in which some agent does not act, rows have links to where each agent's
decision closes.

The memory is two rings. Rows lie in one of fixed capacity, fragment after fragment; a fragment that does not fit before
the end of the array begins at row 0 again. Here with 10 rows, after fragments a to d of 3 rows each:

    row       0 1 2 3 4 5 6 7 8 9
    a b c     a a a b b b c c c .     row 9 is too little for d: it stays unused on this lap
    d         d d d b b b c c c .     d takes the rows of a, the oldest
    next one  . . . ^                 begins at row 3, in place of b

The other ring lists the rows from which a decision may be drawn (`max_size` places), so that sampling is one draw of a
place in it. Evicting the oldest fragment moves the beginning of this ring on by the fragment's drawable rows.

Two threads use the memory: ingest inserts, the trainer samples.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.bounds.experience import planned_rows
from covey.config.sections import FRAGMENT_STEPS
from covey.errors import ConfigError
from covey.rows import Columns, RowKind, RowSchema
from covey.run.state_upgrades import check_version
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2
from covey_server.experience.batch import Batch
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.frames import earlier_frames, stream_rows
from covey_server.experience.observed import ObservedRows
from covey_server.experience.parts import FragmentDecisions, find_decisions
from covey_server.experience.replay_layout import RowLayout, torch_dtype
from covey_server.packing import counter_rng
from covey_server.storage.journal import Position

VERSION = 1
"""Version of the replay memory's state in checkpoints."""


@dataclass(frozen=True, slots=True)
class _StoredFragment:
    """Where the rows of one actor message lie in replay, and how much is freed when it is evicted.

    Attributes:
        start: The row at which it begins.
        rows: Number of its rows.
        steps: Number of env steps.
        drawable: Number of rows with a decision that may be drawn.
        tag: Given back by `Replay.oldest_tag`.
    """

    start: int
    rows: int
    steps: int
    drawable: int
    tag: object


class Replay:
    """A replay memory in tensors on `device`; `len()` is the number of env steps held.

    On a CPU the system provides memory page by page, as rows are first written: an empty replay memory takes none. On
    another device all of it is taken at once, so that a run that begins there has what it needs.

    Args:
        spaces: The run's spaces.
        max_size: Most env steps to hold.
        max_bytes: Most bytes of memory to take.
        device: Where the rows are kept and batches are made.
        stream_steps: Env steps of one environment in a message, by which the rows are planned that repeat frames.

    Raises:
        ConfigError: `max_bytes` is less than two rows.

    Attributes:
        observed: Statistics of the observations in each member's own rows; None unless `observe` was called.
    """

    def __init__(
        self,
        spaces: EnvironmentSpaces,
        max_size: int,
        max_bytes: int,
        device: torch.device | str = "cpu",
        stream_steps: int = FRAGMENT_STEPS,
    ) -> None:
        self._device = torch.device(device)
        self._spaces = spaces
        self._schema, self._frames = RowSchema.of(spaces), spaces.frame_stack
        self._layout = RowLayout(spaces, self._device)
        per_row = self._layout.row_bytes
        self._capacity = planned_rows(per_row, max_size, max_bytes, self._frames, stream_steps)
        self._max_size = max_size
        self._matrices = {d: self._zeros((self._capacity, width), d) for d, width in self._layout.widths.items()}
        # The same memory as numpy arrays, which write small blocks faster. On other devices fragments are staged.
        self._writable = {d: m.numpy() for d, m in self._matrices.items()} if self._device.type == "cpu" else None
        # (capacity, 2N), see RowLayout.link_width; kept less 1, as most decisions close in the next row, one step on.
        self._links: Tensor | None = None
        # The ring of drawable rows: `_drawable_count` row numbers, the oldest at place `_ring_start`.
        self._drawable_rows = self._zeros((max_size,), "int64")
        self._ring_start = 0
        self._drawable_count = 0
        self._steps = 0
        self._next_row = 0  # the row after the newest fragment: the next one begins here if it fits
        self._fragments: deque[_StoredFragment] = deque()
        self._inserted = 0
        self.observed: ObservedRows | None = None
        self._lock = threading.Lock()

    def _zeros(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        """Return zeros; on a CPU the system provides a page of them once it is written to (torch.zeros writes all).

        So an actor that joins takes no memory for rows that it never sends.
        """
        if self._device.type == "cpu":
            return torch.from_numpy(np.zeros(shape, dtype))
        return torch.zeros(shape, dtype=torch_dtype(dtype), device=self._device)

    def __len__(self) -> int:
        return self._steps

    @property
    def inserted_steps(self) -> int:
        """Number of env steps that were ever inserted, evicted ones included."""
        return self._inserted

    @property
    def fragments(self) -> int:
        """Number of actor messages (fragments) held, each of which is stored and evicted as a whole."""
        return len(self._fragments)

    only_newest_policy: ClassVar[bool] = False

    def add(self, rows: AcceptedRows, members: Collection[int]) -> None:
        """Store the rows of an accepted actor message.

        All members learn from all rows, whoever's policies collected them.
        """
        columns = self._schema.view(rows.raw, rows.rows)
        if self.observed is not None and members:
            self.observed.add(columns, rows.streams, members)
        self.insert(columns, rows.slot_streams, rows.position)

    def observe(self) -> None:
        """Keep statistics of the observations in members' own rows from here on, for policies that normalise."""
        if self.observed is None:
            self.observed = ObservedRows(self._spaces)

    @property
    def needed_from(self) -> Position | None:
        """Where the journal on disk has the oldest message held: a restarted learner refills replay from there."""
        oldest = self.oldest_tag
        return oldest if isinstance(oldest, Position) else None

    def to_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the row at which the oldest message begins, which decides later evictions.

        And the statistics of observations that no member has taken yet, where there are any.
        """
        state = {"version": VERSION, "row": self.oldest_row}
        return state if self.observed is None else state | {"observed": self.observed.to_state()}

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Prepare for refilling from the journal, from the row at which the oldest stored message began."""
        check_version("experience", state, VERSION)
        self.begin_at(int(state["row"]))
        if self.observed is not None:
            self.observed.from_state(state["observed"])

    def restore(self, rows: AcceptedRows) -> None:
        """Store again a message read from the journal after a restart; evictions are those of before the restart."""
        self.add(rows, ())

    @property
    def oldest_tag(self) -> object | None:
        """The tag, such as its journal position, with which the oldest message held was inserted.

        None for an empty memory.
        """
        with self._lock:
            return self._fragments[0].tag if self._fragments else None

    @property
    def oldest_row(self) -> int:
        """The row at which the oldest stored message begins.

        In an empty memory, the row at which the next one will begin.
        """
        with self._lock:
            return self._fragments[0].start if self._fragments else self._next_row

    def begin_at(self, row: int) -> None:
        """Let the first message stored in this empty memory begin at the given row.

        Given `oldest_row` of another memory and then its fragments, this one evicts later what the other would have
        evicted.
        """
        self._next_row = row if row <= self._capacity else 0

    def insert(self, columns: Columns, streams: Sequence[fragment_pb2.SlotStream], tag: object | None = None) -> None:
        """Store all rows of an actor's message, a fragment, and evict the oldest fragments whose space they need.

        Args:
            columns: All rows of the fragment, as `covey.rows.RowSchema.decode` gives them.
            streams: The fragment's slot streams, in the order of their rows.
            tag: Given back by `oldest_tag`, such as the fragment's position in the journal.

        Raises:
            ConfigError: the fragment alone is larger than the memory.
        """
        kind = columns["kind"]
        rows = len(kind)
        if rows == 0:
            return
        step = kind == int(RowKind.STEP)
        steps = int(np.count_nonzero(step))
        # A row may be drawn if it has a decision that closes: every step row, or those where at least one agent's does.
        decisions = find_decisions(columns, streams, self._spaces)
        drawable = np.flatnonzero(step if decisions is None else decisions.closed.closes.any(axis=1))
        if rows > self._capacity or max(steps, len(drawable)) > self._max_size:
            raise ConfigError(
                f"replay_buffer holds {self._max_size} env steps in {self._capacity} rows, expected room for a "
                f"fragment of {steps} env steps in {rows} rows; raise max_size or max_bytes"
            )
        earlier = None
        if self._frames > 1:
            starts = np.cumsum([0, *map(stream_rows, streams)])[:-1]
            earlier = earlier_frames(np.asarray(kind, np.uint8), starts.tolist(), self._frames)
        # Copies to another device are slow: they are made before the lock is taken, which sampling needs.
        staged = self._staged(columns, rows, decisions, earlier) if self._writable is None else {}
        links = None if decisions is None else torch.from_numpy(decisions.links).to(self._device, non_blocking=True)
        with self._lock:
            start = self._free_rows(rows, steps, len(drawable))
            new_rows = slice(start, start + rows)
            if self._writable is not None:
                self._layout.write({d: m[new_rows] for d, m in self._writable.items()}, columns, decisions, earlier)
            for dtype, block in staged.items():
                self._matrices[dtype][new_rows].copy_(block)
            self._link(new_rows, links)
            self._append_drawable(drawable + start)
            self._fragments.append(_StoredFragment(start, rows, steps, len(drawable), tag))
            self._next_row = start + rows
            self._steps += steps
            self._inserted += steps

    def sample(self, keys: Tensor, sizes: Tensor, largest: int) -> Batch:
        """Draw a minibatch for each of M members: rows uniformly and with replacement, independently of other members.

        Args:
            keys: (M,) keys from `counter_rng.keys`; together with the memory's content they determine the draw.
            sizes: (M,) batch size of each member; samples beyond it have weight 0.
            largest: The largest batch size, B.
        """
        with self._lock:
            # A draw counts from the oldest drawable row; it becomes a place in the ring, and that a row number.
            draw = counter_rng.integers(keys, "replay", largest, self._drawable_count)
            row = self._drawable_rows.index_select(0, ((draw + self._ring_start) % self._max_size).view(-1))
            if self._links is None:
                links, following = None, row + 1
            else:
                links = self._links.index_select(0, row) + 1
                # Each agent's decision closes in a row of its own: N next rows for each row drawn, (N * M * B,). Agents
                # come first, so that what one agent's critic reads lies together.
                following = (row.unsqueeze(1) + links[:, : links.shape[1] // 2]).t().reshape(-1)
                links = links.view(*draw.shape, -1)
            # One gather per dtype fetches the rows drawn and all their next rows; `views` is 2, or N + 1 with links.
            fetched = torch.cat([row, following])
            views = len(fetched) // len(row)
            # Of matrices with observations also the rows before, for stacks of frames, oldest first; the last is `row`.
            stacks = self._stack_rows(fetched)
            rows = {
                dtype: matrix.index_select(0, stacks if dtype in self._layout.observed else fetched).view(
                    -1, views, *draw.shape, matrix.shape[1]
                )
                for dtype, matrix in self._matrices.items()
            }
        now = {dtype: x[:, 0] for dtype, x in rows.items()}
        after = {dtype: x[:, 1] if links is None else x[:, 1:] for dtype, x in rows.items()}
        return self._layout.batch(now, after, links, sizes)

    def _stack_rows(self, fetched: Tensor) -> Tensor:
        """Return the rows whose observations are stacked for these rows, oldest first: (frames * rows,)."""
        if self._frames == 1:
            return fetched
        earlier = self._matrices["uint8"][:, self._layout.earlier_column].index_select(0, fetched)
        back = torch.arange(self._frames - 1, -1, -1, device=self._device).unsqueeze(1)
        return (fetched - torch.minimum(back, earlier.long())).view(-1)

    def step_rows(self) -> dict[str, Tensor]:
        """Copy the rows that may be sampled, oldest first: by dtype, (rows, width) each. For tests."""
        with self._lock:
            order = (torch.arange(self._drawable_count, device=self._device) + self._ring_start) % self._max_size
            rows = self._drawable_rows[order]
            return {dtype: matrix.index_select(0, rows) for dtype, matrix in self._matrices.items()}

    def _staged(
        self, columns: Columns, rows: int, decisions: FragmentDecisions | None, earlier: NDArray[np.uint8] | None
    ) -> dict[str, Tensor]:
        """Copy a message's rows to the device as one matrix per dtype, before the lock is taken."""
        host = {dtype: np.empty((rows, width), dtype) for dtype, width in self._layout.widths.items()}
        self._layout.write(host, columns, decisions, earlier)
        return {dtype: torch.from_numpy(block).to(self._device, non_blocking=True) for dtype, block in host.items()}

    def _link(self, new_rows: slice, links: Tensor | None) -> None:
        """Store for new rows where each agent's decision closes; None if for all of them in the next row."""
        if links is not None and self._links is None:
            # Links begin with this fragment; in all rows before it decisions close in the next row, one step on.
            self._links = self._zeros((self._capacity, self._layout.link_width), "int32")
        if self._links is not None:
            self._links[new_rows] = 0 if links is None else links - 1

    def _free_rows(self, rows: int, steps: int, drawable: int) -> int:
        """Evict the oldest messages until a new one of this size fits; returns the row at which that is to begin."""
        # Bounds on what is held, wherever it lies.
        while self._steps + steps > self._max_size or self._drawable_count + drawable > self._max_size:
            self._evict()
        start = self._next_row
        if start + rows > self._capacity:
            # The fragment begins at row 0, and the rows from here to the end of the array stay unused on this lap.
            # Fragments that still lie there are from the lap before, so older than those at the beginning.
            while self._fragments and self._fragments[0].start >= self._next_row:
                self._evict()
            start = 0
        # The oldest fragments lie next in the ring: evict them as long as their rows overlap with the new ones.
        while (
            self._fragments
            and self._fragments[0].start < start + rows
            and start < self._fragments[0].start + self._fragments[0].rows
        ):
            self._evict()
        return start

    def _evict(self) -> None:
        """Forget the oldest stored message: its rows may be overwritten and are no longer sampled."""
        evicted = self._fragments.popleft()
        self._steps -= evicted.steps
        self._drawable_count -= evicted.drawable
        # Its drawable rows are the first in their ring, as fragments come and go in the same order.
        self._ring_start = (self._ring_start + evicted.drawable) % self._max_size

    def _append_drawable(self, ids: NDArray[np.intp]) -> None:
        """Append row numbers to the ring buffer of rows that may be sampled."""
        begin = (self._ring_start + self._drawable_count) % self._max_size
        fits = min(len(ids), self._max_size - begin)
        new = torch.from_numpy(ids.astype(np.int64, copy=False)).to(self._device, non_blocking=True)
        self._drawable_rows[begin : begin + fits] = new[:fits]
        self._drawable_rows[: len(ids) - fits] = new[fits:]
        self._drawable_count += len(ids)
