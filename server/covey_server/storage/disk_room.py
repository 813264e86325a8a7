"""A disk without room: orders and fragments wait until the journal takes records again, by itself."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING

from covey.errors import DiskFullError
from covey_server.storage.journal import Kind

if TYPE_CHECKING:
    from covey_server.learner import Learner

PROBE_BYTES = 1 << 16
"""A disk that was full has room again when it takes a record of this size: more than most fragments need."""


class Room:
    """Whether a learner's journal has room. All under the learner's lock.

    Attributes:
        missing: Why the journal takes nothing now; empty while it does.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self.missing = ""
        self._waiting: deque[tuple[Kind, bytes]] = deque()  # two an actor at most: no further orders leave meanwhile

    def wait(self, exc: DiskFullError) -> None:
        """The journal took nothing: orders do not leave, fragments stay with their actors, until there is room."""
        if not self.missing:
            self.missing = str(exc)
            self._learner.totals.counters["disk_full"] += 1
            self._learner.event(f"{exc}; until then orders and fragments wait, and nothing is lost")

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

    def find(self) -> bool:
        """Whether there is room again, after there was none; to be asked again and again meanwhile.

        Raises:
            StorageError: the disk failed otherwise.
        """
        with self._learner.lock:
            try:
                self._learner.journal.append(Kind.NOTE, json.dumps({"room": " " * PROBE_BYTES}).encode())
                self._write_waiting()
            except DiskFullError:
                return False
            self.missing = ""
            self._learner.event("the disk has room again: orders and fragments go on")
            return True

    def _write_waiting(self) -> None:
        while self._waiting:
            self._learner.journal.append(*self._waiting[0])
            self._waiting.popleft()
