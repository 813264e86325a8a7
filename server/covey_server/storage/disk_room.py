"""A disk without room: orders and fragments wait until the journal takes records again, by itself."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable

from covey.errors import DiskFullError
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.storage.journal import Journal, Kind

PROBE_BYTES = 1 << 16
"""A disk that was full has room again when it takes a record of this size: more than most fragments need."""


class DiskRoom:
    """Whether the journal's disk has room.

    Args:
        lock: Under which all of this is called.
        journal: The run's.
        full: Called when the disk has become full, with a sentence.
        free: Called when it has room again, with a sentence.

    Attributes:
        missing: Why the journal takes nothing now; empty while it does.
    """

    def __init__(
        self, lock: StateLock, journal: Journal, full: Callable[[str], None], free: Callable[[str], None]
    ) -> None:
        self.lock = lock
        self._journal = journal
        self._full, self._free = full, free
        self.missing = ""
        self._waiting: deque[tuple[Kind, bytes]] = deque()  # two an actor at most: no further orders leave meanwhile

    @under_lock
    def wait(self, exc: DiskFullError) -> None:
        """The journal took nothing: orders do not leave, fragments stay with their actors, until there is room."""
        if not self.missing:
            self.missing = str(exc)
            self._full(f"{exc}; until then orders and fragments wait, and nothing is lost")

    @under_lock
    def record(self, kind: Kind, payload: bytes) -> None:
        """Append what has happened in any case, now or before anything else when there is room.

        Raises:
            StorageError: the disk failed otherwise.
        """
        self._waiting.append((kind, payload))
        if not self.missing:
            try:
                self._write_waiting()
            except DiskFullError as exc:
                self.wait(exc)

    @under_lock
    def look_again(self) -> bool:
        """Whether there is room again, after there was none; to be asked again and again meanwhile.

        Raises:
            StorageError: the disk failed otherwise.
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
        while self._waiting:
            self._journal.append(*self._waiting[0])
            self._waiting.popleft()
