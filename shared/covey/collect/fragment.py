"""Building a fragment: rows of all slots, written in place while they move, encoded once at the end.

Dims: P streams (training slots of the order), C rows of room in each, N agents of a group, A agents; agents on one
axis A stand group by group, as in `covey.envs.slots`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import Active, Columns, RowKind, RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import fragment_pb2


class FragmentBuilder:
    """The streams of one order, in its sequence.

    A step is written in two halves: `decide` before the environments move, `close` after; what is decided and not
    closed is overwritten by the next row.
    """

    def __init__(self, schema: RowSchema, spaces: EnvironmentSpaces, slots: Sequence[int], room: int) -> None:
        streams = len(slots)
        self._schema = schema
        self._slots = list(slots)
        self.room = room
        self._groups = [g.group_id for g in spaces.groups]
        ends = np.cumsum([len(g) for g in spaces.groups])
        self._agents = [slice(end - len(g), end) for g, end in zip(spaces.groups, ends.tolist(), strict=True)]

        def zeros(dtype: str, *shape: int) -> NDArray[Any]:
            return np.zeros((streams, room, *shape), dtype)

        agents = len(spaces.agents)
        self._kind = np.full((streams, room), RowKind.STEP, np.uint8)
        self._observation = [zeros(g.observation.dtype, len(g), *g.observation.shape) for g in spaces.groups]
        self._action = [zeros(g.action.dtype, len(g), *g.action.shape) for g in spaces.groups]
        self._active, self._terminated, self._truncated = (zeros("uint8", agents) for _ in range(3))
        self._reward = zeros("float32", agents)
        self.rows = np.zeros(streams, np.intp)
        self.steps = np.zeros(streams, np.intp)
        self.cut_before = [False] * streams

    def select(self, streams: Sequence[int], slots: Sequence[int]) -> None:
        """Choose the streams that `decide` and `close` write, by position in the order, and the slot of each."""
        self._streams, self._source = as_index(streams), as_index(slots)
        rows = self.rows[self._streams].copy()  # a slice would give a view, which `close` counts up twice
        # Mostly all streams stand at one row; a slice and a number are several times faster than two index arrays.
        if rows.size and (rows == rows[0]).all():
            self._row: int | NDArray[np.intp] = int(rows[0])
        else:
            self._streams, self._row = np.array(streams, np.intp), rows

    def decide(
        self, observation: Sequence[NDArray[Any]], action: Sequence[NDArray[Any]], present: NDArray[np.uint8]
    ) -> None:
        """Write what agents see and do, for the streams selected.

        Args:
            observation: Per group, (S, N, *shape).
            action: Per group, (S, N, *shape).
            present: (S, A), 1 for agents that act. Actions of the others are written as zeros.
        """
        at, source = (self._streams, self._row), self._source
        here = present[source]
        everybody = here.all()
        self._active[at] = here  # Active.CHOSE is 1
        for g, agents in enumerate(self._agents):
            self._observation[g][at] = observation[g][source]
            chosen = action[g][source]
            if not everybody:
                mask = here[:, agents].astype(bool)
                chosen = np.where(mask.reshape(*mask.shape, *(1,) * (chosen.ndim - 2)), chosen, 0)
            self._action[g][at] = chosen

    def close(self, reward: NDArray[np.float64], terminated: NDArray[np.uint8], truncated: NDArray[np.uint8]) -> None:
        """Write what came of it, all (S, A), for the streams selected; their rows are step rows now."""
        at, source = (self._streams, self._row), self._source
        self._reward[at] = reward[source]
        self._terminated[at] = terminated[source]
        self._truncated[at] = truncated[source]
        self.rows[self._streams] += 1
        self.steps[self._streams] += 1
        self._row += 1

    def cut(self, stream: int, running: bool) -> None:
        """The environment raised: what was decided becomes a cut row, or nothing where no step row needs one.

        Args:
            stream: Position in the order.
            running: Whether the episode had steps, here or in earlier fragments.
        """
        if running and not self.rows[stream]:
            self.cut_before[stream] = True
        if self.open(stream):
            at = stream, self.rows[stream]
            self._kind[at] = RowKind.CUT
            for action in self._action:
                action[at] = 0
            self.rows[stream] += 1

    def end(
        self,
        streams: Sequence[int],
        slots: Sequence[int],
        kind: RowKind,
        observation: Sequence[NDArray[Any]],
        present: NDArray[np.uint8],
    ) -> None:
        """Write final or tail rows: what the agents of these slots see now, arguments as in `decide`."""
        if not streams:
            return
        self.select(streams, slots)
        at, source = (self._streams, self._row), self._source
        self._kind[at] = kind
        for g in range(len(self._groups)):
            self._observation[g][at] = observation[g][source]
            self._action[g][at] = 0
        self._active[at] = Active.ABSENT if kind == RowKind.FINAL else present[source]
        self.rows[self._streams] += 1

    def open(self, stream: int) -> bool:
        """Whether the stream's last row is a step row, which needs one after it."""
        rows = self.rows[stream]
        return bool(rows and self._kind[stream, rows - 1] == RowKind.STEP)

    def encode(self, fragment: fragment_pb2.Fragment, level: int) -> None:
        """Put the streams that have rows, and the blob, into an envelope."""
        kept = [(i, n) for i, n in enumerate(self.rows.tolist()) if n]
        if not kept:
            return
        for i, n in kept:
            fragment.streams.add(slot=self._slots[i], rows=n, steps=int(self.steps[i]), cut_before=self.cut_before[i])

        rows = kept[0][1]
        even = len(kept) == len(self._slots) and all(n == rows for _, n in kept)

        def joined(array: NDArray[Any]) -> NDArray[Any]:
            if even:  # the usual case, and one copy instead of many
                return array[:, :rows].reshape(-1, *array.shape[2:])
            return np.concatenate([array[i, :n] for i, n in kept])

        columns: Columns = {"kind": joined(self._kind)}
        flat = {name: joined(getattr(self, f"_{name}")) for name in ("active", "reward", "terminated", "truncated")}
        for g, (name, agents) in enumerate(zip(self._groups, self._agents, strict=True)):
            columns[f"{name}/observation"] = joined(self._observation[g])
            columns[f"{name}/action"] = joined(self._action[g])
            columns |= {f"{name}/{what}": values[:, agents] for what, values in flat.items()}
            # Every agent acts in every step, so no decision stays open across fragments.
            columns[f"{name}/age"] = np.zeros((len(columns["kind"]), agents.stop - agents.start), np.uint32)
        fragment.blob, fragment.raw_bytes = self._schema.encode(columns, level)
        fragment.schema_hash = self._schema.hash


def as_index(positions: Sequence[int]) -> Any:
    """A slice where the positions are consecutive, otherwise an index array."""
    if positions and list(positions) == list(range(positions[0], positions[0] + len(positions))):
        return slice(positions[0], positions[0] + len(positions))
    return np.array(positions, np.intp)
