"""The shared replay memory: fragments go in whole and are evicted whole, oldest first.

Rows of a fragment lie next to each other, so the next observation of a step row is the next row and is stored once.
From the first fragment on in which some agent does not act, rows have links: where each agent's decision closes.
Two threads use it: ingest inserts, the trainer samples.
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

from covey.errors import ConfigError
from covey.rows import Columns, RowKind, RowSchema
from covey.run.state_upgrades import check_version
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2
from covey_server.experience.batch import Batch
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.parts import Decided, decide
from covey_server.experience.replay_layout import RowLayout, torch_dtype
from covey_server.packing import counter_rng
from covey_server.storage.journal import Position

VERSION = 1
"""Of the state that a checkpoint keeps."""

SMALL_ROW_BYTES = 1024
"""Up to here two rows are reserved per env step, which always suffices; above, an eighth more than one."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A fragment in memory: where its rows lie, how many env steps it brought, how many of its rows may be drawn."""

    start: int
    rows: int
    steps: int
    drawable: int
    tag: object


class Replay:
    """A ring of rows in preallocated tensors on `device`; `len()` is the env steps held.

    Args:
        spaces: The run's environment.
        max_size: Env steps that it holds at most.
        max_bytes: Bound of the memory that it takes.
        device: Where rows live.

    Raises:
        ConfigError: `max_bytes` is less than two rows.
    """

    def __init__(
        self, spaces: EnvironmentSpaces, max_size: int, max_bytes: int, device: torch.device | str = "cpu"
    ) -> None:
        self._device = torch.device(device)
        self._spaces = spaces
        self._schema = RowSchema.of(spaces)
        self._layout = RowLayout(spaces, self._device)
        per_row = self._layout.row_bytes
        # Every closing row follows a step row, so two rows a step are the most there can be.
        wanted = 2 * max_size if per_row <= SMALL_ROW_BYTES else max_size + max_size // 8 + 2
        self._capacity = min(wanted, (max_bytes - 8 * max_size) // per_row)
        if self._capacity < 2:
            raise ConfigError(
                f"replay_buffer.max_bytes: {max_bytes}, expected at least {2 * per_row + 8 * max_size} for rows of "
                f"{per_row} bytes and max_size {max_size}; raise max_bytes or lower max_size"
            )
        self._max_size = max_size
        # Writing the zeros touches every page now, not one by one while training.
        self._matrices = {
            dtype: torch.zeros((self._capacity, width), dtype=torch_dtype(dtype), device=self._device)
            for dtype, width in self._layout.widths.items()
        }
        # The same memory for numpy, which writes small blocks with less ado; elsewhere fragments are staged.
        self._writable = {d: m.numpy() for d, m in self._matrices.items()} if self._device.type == "cpu" else None
        self._links: Tensor | None = None  # (capacity, 2N), see RowLayout.link_width
        self._decisions = torch.zeros(max_size, dtype=torch.int64, device=self._device)  # a ring of rows to draw
        self._first = 0  # in _decisions, of the oldest
        self._drawable = 0
        self._steps = 0
        self._end = 0  # where the newest fragment's rows end
        self._held: deque[_Held] = deque()
        self._inserted = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._steps

    @property
    def inserted_steps(self) -> int:
        """Env steps that ever went in."""
        return self._inserted

    @property
    def fragments(self) -> int:
        """Fragments held."""
        return len(self._held)

    only_newest_policy: ClassVar[bool] = False

    def add(self, rows: AcceptedRows, members: Collection[int]) -> None:
        """As `Experience.add`; all members learn from all rows, so it matters to none whose they are."""
        del members
        self.insert(self._schema.view(rows.raw, rows.rows), rows.slot_streams, rows.position)

    @property
    def needed_from(self) -> Position | None:
        """As `Experience.needed_from`: where the journal has the oldest fragment held."""
        oldest = self.oldest_tag
        return oldest if isinstance(oldest, Position) else None

    def to_state(self) -> dict[str, Any]:
        """As `Experience.to_state`: the row at which the oldest fragment begins, for evictions depend on it."""
        return {"version": VERSION, "row": self.oldest_row}

    def from_state(self, state: Mapping[str, Any]) -> None:
        """As `Experience.from_state`."""
        check_version("experience", state, VERSION)
        self.begin_at(int(state["row"]))

    def restore(self, rows: AcceptedRows) -> None:
        """As `Experience.restore`."""
        self.add(rows, ())

    @property
    def oldest_tag(self) -> object | None:
        """The tag of the oldest fragment held; None when empty."""
        with self._lock:
            return self._held[0].tag if self._held else None

    @property
    def oldest_row(self) -> int:
        """Where the oldest fragment's rows begin, or the next one's will."""
        with self._lock:
            return self._held[0].start if self._held else self._end

    def begin_at(self, row: int) -> None:
        """Put the first fragment here, into an empty memory.

        With `oldest_row` of another memory and its fragments, this one will evict what that one would have.
        """
        self._end = row if row <= self._capacity else 0

    def insert(self, columns: Columns, streams: Sequence[fragment_pb2.SlotStream], tag: object | None = None) -> None:
        """Add a whole fragment, evicting the oldest ones where it needs their room.

        Args:
            columns: As `covey.rows.RowSchema.decode` gives them, for all streams of the fragment.
            streams: Its slot streams; their `rows + lead_in_rows` tell the columns apart.
            tag: Given back by `oldest_tag`; the fragment's position in the journal.

        Raises:
            ConfigError: the fragment alone is larger than the memory.
        """
        kind = columns["kind"]
        rows = len(kind)
        if rows == 0:
            return
        step = kind == int(RowKind.STEP)
        steps = int(np.count_nonzero(step))
        decided = decide(columns, streams, self._spaces)
        where = np.flatnonzero(step if decided is None else decided.closed.closes.any(axis=1))
        if rows > self._capacity or max(steps, len(where)) > self._max_size:
            raise ConfigError(
                f"replay_buffer: holds {self._max_size} env steps in {self._capacity} rows, expected room for a "
                f"fragment of {steps} env steps in {rows} rows; raise max_size or max_bytes"
            )
        staged = self._staged(columns, rows, decided) if self._writable is None else {}
        links = None if decided is None else torch.from_numpy(decided.links).to(self._device)
        with self._lock:
            start = self._make_room(rows, steps, len(where))
            here = slice(start, start + rows)
            if self._writable is not None:
                self._layout.write({d: m[here] for d, m in self._writable.items()}, columns, decided)
            for dtype, block in staged.items():
                self._matrices[dtype][here].copy_(block)
            self._link(here, links)
            self._append(where + start)
            self._held.append(_Held(start, rows, steps, len(where), tag))
            self._end = start + rows
            self._steps += steps
            self._inserted += steps

    def sample(self, keys: Tensor, sizes: Tensor, largest: int) -> Batch:
        """Draw rows with decisions uniformly, with replacement, for each member on its own.

        Args:
            keys: (M,) from `counter_rng.keys`; with the memory's content they fix the draw.
            sizes: (M,) batch size of each member; samples beyond it have weight 0.
            largest: The largest of them, B.
        """
        with self._lock:
            draw = counter_rng.integers(keys, "replay", largest, self._drawable)
            row = self._decisions.index_select(0, ((draw + self._first) % self._max_size).view(-1))
            if self._links is None:
                links, following = None, row + 1
            else:
                links = self._links.index_select(0, row)
                # Agents in front: what one of them reads lies together.
                following = (row.unsqueeze(1) + links[:, : links.shape[1] // 2]).t().reshape(-1)
                links = links.view(*draw.shape, -1)
            both = torch.cat([row, following])
            views = len(both) // len(row)
            rows = {
                dtype: matrix.index_select(0, both).view(views, *draw.shape, matrix.shape[1])
                for dtype, matrix in self._matrices.items()
            }
        now = {dtype: x[0] for dtype, x in rows.items()}
        after = {dtype: x[1] if links is None else x[1:] for dtype, x in rows.items()}
        return self._layout.batch(now, after, links, sizes)

    def step_rows(self) -> dict[str, Tensor]:
        """The rows that may be drawn, oldest first: a copy, (rows, width) per dtype. For checks of its content."""
        with self._lock:
            order = (torch.arange(self._drawable, device=self._device) + self._first) % self._max_size
            rows = self._decisions[order]
            return {dtype: matrix.index_select(0, rows) for dtype, matrix in self._matrices.items()}

    def _staged(self, columns: Columns, rows: int, decided: Decided | None) -> dict[str, Tensor]:
        """The fragment's rows as matrices on the device, made outside the lock."""
        host = {dtype: np.empty((rows, width), dtype) for dtype, width in self._layout.widths.items()}
        self._layout.write(host, columns, decided)
        return {dtype: torch.from_numpy(block).to(self._device) for dtype, block in host.items()}

    def _link(self, here: slice, links: Tensor | None) -> None:
        """Enter a fragment's links; None: everybody's decisions close in the row after, one env step on."""
        if links is not None and self._links is None:
            # So do all decisions that are here already.
            shape = (self._capacity, self._layout.link_width)
            self._links = torch.ones(shape, dtype=torch.int32, device=self._device)
        if self._links is not None:
            self._links[here] = 1 if links is None else links

    def _make_room(self, rows: int, steps: int, drawable: int) -> int:
        """Evict until the fragment fits; returns where its rows begin."""
        while self._steps + steps > self._max_size or self._drawable + drawable > self._max_size:
            self._evict()
        start = self._end
        if start + rows > self._capacity:
            # The top stays unused this round; what still lies there is older than what lies at the bottom.
            while self._held and self._held[0].start >= self._end:
                self._evict()
            start = 0
        while self._held and self._held[0].start < start + rows and start < self._held[0].start + self._held[0].rows:
            self._evict()
        return start

    def _evict(self) -> None:
        gone = self._held.popleft()
        self._steps -= gone.steps
        self._drawable -= gone.drawable
        self._first = (self._first + gone.drawable) % self._max_size

    def _append(self, ids: NDArray[np.intp]) -> None:
        begin = (self._first + self._drawable) % self._max_size
        fits = min(len(ids), self._max_size - begin)
        new = torch.from_numpy(ids.astype(np.int64, copy=False))
        self._decisions[begin : begin + fits] = new[:fits].to(self._device)
        self._decisions[: len(ids) - fits] = new[fits:].to(self._device)
        self._drawable += len(ids)
