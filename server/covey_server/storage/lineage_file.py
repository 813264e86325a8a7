"""`lineage.jsonl` of a run: what `covey lineage` says of members that died, a line each, in the order of their deaths.

A line never changes, so a checkpoint only says how many there are, and costs the same after a thousand generations as
after one. What a later checkpoint appended is cut off when a run goes on from an earlier one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from covey.errors import StorageError
from covey.run.files import cannot_read, cannot_write, sync_directory
from covey.run.reports import member_json
from covey_server.evolution.lineage import entry_from_json, entry_info
from covey_server.member import LineageEntry

logger = logging.getLogger("covey.lineage")


class LineageFile:
    """The file of one run, to which one thread at a time appends; its content before is lost unless it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self.lines = 0

    def append(self, dead: Iterable[LineageEntry]) -> None:
        """Add lines; they are durable then.

        Raises:
            StorageError: the disk is full or not writable; the lines before stay.
        """
        lines = [json.dumps(member_json(entry_info(entry))) for entry in dead]
        if not lines and self.lines:
            return
        text = "".join(f"{line}\n" for line in lines).encode()
        try:
            with self._path.open("ab") as file:
                file.truncate(self._size)  # what no checkpoint counts on, and half a line that a full disk took
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if self._size == 0:  # it may be new
                sync_directory(self._path.parent)
        except OSError as exc:
            raise cannot_write(self._path, exc) from exc
        self._size += len(text)
        self.lines += len(lines)

    def read(self, count: int) -> list[LineageEntry]:
        """The first so many lines; others are cut off with the next that are added.

        Damaged ones are left out, with a warning: a run can go on without them.

        Raises:
            StorageError: the file is not readable, or not writable.
        """
        try:
            lines = self._path.read_bytes().split(b"\n")[:count]
        except FileNotFoundError:
            lines = []
        except OSError as exc:
            raise cannot_read(self._path, exc) from exc
        found: dict[int, LineageEntry] = {}
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError, StorageError):
                entry = entry_from_json(json.loads(line))
                if entry.died_generation is not None:
                    found.setdefault(entry.member_id, entry)
        self.lines, self._size = len(lines), sum(len(line) + 1 for line in lines)
        if len(found) < count:
            logger.warning("%s: %d of %d members that died can be read; going on", self._path, len(found), count)
            self.lines = self._size = 0
            self.append(found.values())
        return list(found.values())
