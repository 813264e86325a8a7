"""The learner's side of the ledger: its journal, read from outside while it is written."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.notes import fragment_hash

from covey.v1.fragment_pb2 import IssuedOrder, ReceivedFragment, RevokedOrders
from covey_server.storage.journal import Kind, Position
from covey_server.storage.journal_segment import SEGMENT_START

_HEADER = struct.Struct("<IIII")  # length, kind, CRC-32 of the payload, CRC-32 of these

Key = tuple[str, int]
"""Name and incarnation of an actor."""


@dataclass(slots=True)
class Issued:
    """An order."""

    end: Position
    key: Key
    order_id: int
    generation: int


@dataclass(slots=True)
class Taken:
    """A fragment."""

    end: Position
    key: Key
    seq: int
    sha: str
    refused: str
    order_id: int
    steps: Counter[int]  # env steps that count, by member
    superseded: bool = False  # its rows do not count either


@dataclass(slots=True)
class Revoked:
    """Orders that ended without a fragment."""

    end: Position
    order_ids: list[int]


Entry = Issued | Taken | Revoked


class History:
    """All that was ever in a run's journal, but for what a power cut took.

    Segments that the learner deletes stay known, if `follow` was called between their last record and that.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._end = Position(1, len(SEGMENT_START))
        self.entries: list[Entry] = []

    @property
    def taken(self) -> Iterator[Taken]:
        """All fragments."""
        return (e for e in self.entries if isinstance(e, Taken))

    @property
    def issued(self) -> dict[int, Issued]:
        """All orders, by id."""
        return {e.order_id: e for e in self.entries if isinstance(e, Issued)}

    def follow(self) -> list[Entry]:
        """Read what came since the last call; returns it."""
        before = len(self.entries)
        while True:
            rotated = self.segment(self._end.segment + 1).exists()  # before reading: then this one is complete
            self._read()
            if not rotated:
                return self.entries[before:]
            self._end = Position(self._end.segment + 1, len(SEGMENT_START))

    def rewind(self, cut: Position) -> None:
        """The power failed: nothing is left from here on."""
        while self.entries and self.entries[-1].end > cut:
            self.entries.pop()
        last = self.entries[-1].end if self.entries else Position(0, 0)
        self._end = last if last.segment == cut.segment else Position(cut.segment, len(SEGMENT_START))

    def supersede(self, after: Position, generation: int) -> None:
        """The learner went back to a checkpoint of this generation: later ones count no more, they are made again."""
        later = [i.end for i in self.issued.values() if i.end > after and i.generation > generation]
        for entry in self.taken:
            if later and entry.end > min(later):
                entry.steps.clear()
                entry.superseded = True

    def segment(self, number: int) -> Path:
        """A segment's file."""
        return self._directory / f"{number:010d}.journal"

    def _read(self) -> None:
        """Whole records from the end on; one that is being written waits for the next call."""
        try:
            with self.segment(self._end.segment).open("rb") as file:
                file.seek(self._end.offset)
                data = file.read()
        except FileNotFoundError:
            return
        at = 0
        while at + _HEADER.size <= len(data):
            fields = _HEADER.unpack_from(data, at)
            payload = data[at + _HEADER.size : at + _HEADER.size + fields[0]]
            if zlib.crc32(data[at : at + 12]) != fields[3] or zlib.crc32(payload) != fields[2]:
                return
            at += _HEADER.size + fields[0]
            self._end = Position(self._end.segment, self._end.offset + _HEADER.size + fields[0])
            if fields[1] in _PARSERS:
                self.entries.append(_PARSERS[Kind(fields[1])](payload, self._end))


def _issued(payload: bytes, end: Position) -> Entry:
    issued = IssuedOrder.FromString(payload)
    return Issued(end, (issued.actor_id, issued.incarnation), issued.order.order_id, issued.order.generation)


def _taken(payload: bytes, end: Position) -> Entry:
    received = ReceivedFragment.FromString(payload)
    fragment, steps = received.fragment, Counter[int]()
    for stream, member_id in zip(fragment.streams, received.stream_members, strict=True):
        steps[member_id] += stream.steps
    key = received.actor_id, received.incarnation
    return Taken(end, key, fragment.seq, fragment_hash(fragment), received.refused, fragment.order_id, steps)


def _revoked(payload: bytes, end: Position) -> Entry:
    return Revoked(end, list(RevokedOrders.FromString(payload).order_ids))


_PARSERS = {Kind.ORDER: _issued, Kind.FRAGMENT: _taken, Kind.REVOKED: _revoked}
