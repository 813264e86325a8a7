"""The file `lineage.jsonl` of a run: one line of JSON for each member that died, in the order of their deaths.

Lines never change, so a checkpoint stores only their number, and costs the same after a thousand generations as after
one. When a run is resumed from an earlier checkpoint, lines that later ones appended are cut off.
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
    """The file with one line for each member of a run that died; one thread at a time may append to it.

    Args:
        path: The file, which may not exist yet. Call `read` before `append` to keep the lines that it has; otherwise
            the first `append` deletes them.

    Attributes:
        lines: Number of valid lines in the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        self.lines = 0

    def append(self, dead: Iterable[LineageEntry]) -> None:
        """Append a line for each member that died, and sync the file to disk.

        Args:
            dead: Entries of members that died, in the order of their deaths.

        Raises:
            StorageError: the disk is full or not writable; the lines before stay.
        """
        lines = [json.dumps(member_json(entry_info(entry))) for entry in dead]
        if not lines and self.lines:
            return
        text = "".join(f"{line}\n" for line in lines).encode()
        try:
            with self._path.open("ab") as file:
                # Remove lines that belong to no checkpoint, and a partial line from a disk that was full.
                file.truncate(self._size)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if self._size == 0:  # the file may be new, so its name must become durable too
                sync_directory(self._path.parent)
        except OSError as exc:
            raise cannot_write(self._path, exc) from exc
        self._size += len(text)
        self.lines += len(lines)

    def read(self, count: int) -> list[LineageEntry]:
        """Read the entries of dead members up to the number that a checkpoint gives, and remove all later lines.

        Damaged lines are left out with a warning, and the file is written again without them: a run can do without.

        Args:
            count: Number of lines that the file had at the time of the checkpoint.

        Returns:
            The entries of members that died, in the order of their deaths.

        Raises:
            StorageError: the file is not readable or, if lines are damaged or too many, not writable.
        """
        try:
            lines = self._path.read_bytes().split(b"\n")[:count]
        except FileNotFoundError:
            lines = []
        except OSError as exc:
            raise cannot_read(self._path, exc) from exc
        self._cut_off(sum(len(line) + 1 for line in lines))
        found: dict[int, LineageEntry] = {}
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError, StorageError):
                entry = entry_from_json(json.loads(line))
                if entry.died_generation is not None:
                    found.setdefault(entry.member_id, entry)
        self.lines, self._size = len(lines), sum(len(line) + 1 for line in lines)
        if len(found) < count:
            logger.warning(
                "%s: %d of %d members that died can be read; going on with these", self._path, len(found), count
            )
            # With a size of 0, `append` empties the file before it writes the lines that are sound.
            self.lines = self._size = 0
            self.append(found.values())
        return list(found.values())

    def _cut_off(self, size: int) -> None:
        """Remove lines of checkpoints that are lost: whoever reads the file takes the members in them for dead.

        Raises:
            StorageError: the file is not writable.
        """
        try:
            if self._path.exists() and self._path.stat().st_size > size:
                os.truncate(self._path, size)
        except OSError as exc:
            raise cannot_write(self._path, exc) from exc
