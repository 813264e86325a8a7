"""Handles a full disk: no work is given out and nothing is accepted until the journal can be written again."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable

from covey.errors import DiskFullError
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.storage.journal import Journal, Kind

PROBE_BYTES = 1 << 16
"""Size of the test record that shows that a full disk has space again: larger than most fragments."""


class DiskRoom:
    """Tracks whether the journal's disk is full, and keeps records that could not be written yet.

    Args:
        lock: The learner's lock, which callers of every method must hold.
        journal: The run's journal.
        full: Called with a sentence for people when the disk has become full.
        free: Called with a sentence for people when the disk has space again.

    Attributes:
        missing: The error that says why the journal cannot be written; empty while it can.
    """

    def __init__(
        self, lock: StateLock, journal: Journal, full: Callable[[str], None], free: Callable[[str], None]
    ) -> None:
        self.lock = lock
        self._journal = journal
        self._full, self._free = full, free
        self.missing = ""
        # Records to be written, oldest first. They stay few, at most two for each actor, because no orders are issued
        # while the disk is full.
        self._waiting: deque[tuple[Kind, bytes]] = deque()

    @under_lock
    def wait(self, exc: DiskFullError) -> None:
        """Note that a write to the journal failed because the disk is full; `missing` is set from now on.

        While it is set, the learner gives actors no work and accepts no experience, which they keep.
        """
        if not self.missing:
            self.missing = str(exc)
            self._full(f"{exc}; until then orders and fragments wait, and nothing is lost")

    @under_lock
    def record(self, kind: Kind, payload: bytes) -> None:
        """Append a record of something that has happened already; while the disk is full, keep it and write it later.

        Args:
            kind: Kind of the record.
            payload: Content of the record.

        Raises:
            StorageError: the disk failed in another way than by being full.
        """
        # Behind those that wait already: the journal holds records in the order of what happened.
        self._waiting.append((kind, payload))
        if not self.missing:
            try:
                self._write_waiting()
            except DiskFullError as exc:
                self.wait(exc)

    @under_lock
    def look_again(self) -> bool:
        """Try whether a full disk has space again, and write the records that wait; call it once in a while.

        Returns:
            Whether the disk was full and has space now.

        Raises:
            StorageError: the disk failed in another way than by being full.
        """
        if not self.missing:
            return False
        try:
            self._journal.append(Kind.NOTE, json.dumps({"room": " " * PROBE_BYTES}).encode())
            self._write_waiting()
        except DiskFullError:
            return False
        self.missing = ""
        self._free("the disk has room again: orders and fragments go on")
        return True

    def _write_waiting(self) -> None:
        """Write the records that waited for space, oldest first; each is forgotten only once the journal has it."""
        while self._waiting:
            self._journal.append(*self._waiting[0])
            self._waiting.popleft()
