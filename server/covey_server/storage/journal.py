"""The journal of a run, an append-only log on disk: issued orders, received fragments, revoked orders and notes.

It is a folder of segment files (`journal_segment` has their format). A full segment is not synced when it fills, but
together with the newest one. Until then the start of the segment behind it says how many bytes the full one must have:
if a crash has cut it short, opening the journal notices, and deletes the segments behind it.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import math
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from covey.errors import StorageError
from covey.run.files import cannot_read, cannot_write, sync_directory
from covey_server.storage.journal_segment import (
    MAGIC,
    SEGMENT_START,
    Kind,
    bytes_before,
    create,
    pack_header,
    pack_start,
    records,
    sound_end,
)

__all__ = ["Journal", "Kind", "Position"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{10})\.journal")


class Position(NamedTuple):
    """A place in a run's journal: number of a file (segment) and byte offset in it; later positions compare greater."""

    segment: int
    offset: int


class Journal:
    """A run's journal, an append-only log on disk, open for appending by one thread; others may call `sync` meanwhile.

    An appended record survives the end of the process, because it is handed to the operating system at once; `sync`
    makes it survive a crash of the machine too. `Journal.open` creates the object.

    Attributes:
        directory: Folder of the segments.
        due: Event that is set while at least `sync_bytes` bytes were appended since the last sync.
    """

    def __init__(
        self, directory: Path, segment_bytes: int, sync_bytes: int | None, lock_fd: int, first: int, end: Position
    ) -> None:
        self.directory = directory
        self.due = threading.Event()
        self._segment_bytes = segment_bytes
        self._sync_bytes = math.inf if sync_bytes is None else sync_bytes
        self._lock_fd = lock_fd
        self._first = first
        self._end = end
        self._synced: Position | None = None
        self._unsynced_bytes = 0
        self._fds: list[int] = []  # open files: full segments that were not synced yet, then the newest segment
        self._mutex = threading.Lock()  # guards the fields above; held only briefly
        self._syncing = threading.Lock()  # held during a whole sync, so that one runs at a time
        self._failed: StorageError | None = None

    @staticmethod
    def open(directory: Path, segment_bytes: int, sync_bytes: int | None = None) -> Journal:
        """Open a journal, or create an empty one; cuts off what a crash left incomplete and syncs the rest.

        Args:
            directory: Folder of the segments; a lock keeps other learners out of it.
            segment_bytes: Size from which on a segment is full and the next record begins a new one.
            sync_bytes: Number of bytes appended since the last sync from which on `due` is set; None: never.

        Raises:
            StorageError: the folder is not writable, another learner uses it, a record is damaged, or a segment is
                missing.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            raise cannot_write(directory, exc) from exc
        fds: list[int] = []
        try:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise StorageError(f"{directory}: another learner writes this run; end it first") from exc
            numbers = _segments(directory)
            if numbers:
                # What a crash of the process left may be in the system's memory only, so these segments stay open for
                # the sync below; the segments before them have been synced.
                checked, offset = _cut_unfinished(directory, numbers)
                newest = numbers[-1]
                fds.extend(os.open(_path(directory, number), os.O_RDWR) for number in numbers[checked:])
            else:
                numbers, newest, offset = [1], 1, len(SEGMENT_START)
                fds.append(create(_path(directory, 1), 0))
            end = Position(newest, offset)
            journal = Journal(directory, segment_bytes, sync_bytes, lock_fd, numbers[0], end)
            journal._fds = fds
            journal.sync()
            return journal
        except BaseException as exc:
            for opened in (lock_fd, *fds):
                os.close(opened)
            if isinstance(exc, OSError):
                raise cannot_write(directory, exc) from exc
            raise

    @property
    def start(self) -> Position:
        """Position of the oldest record in the journal."""
        return Position(self._first, len(SEGMENT_START))

    @property
    def position(self) -> Position:
        """Position at which the journal ends, behind its newest record."""
        return self._end

    def append(self, kind: Kind, payload: bytes) -> Position:
        """Append a record to the journal.

        Returns:
            The position at which the record starts.

        Raises:
            StorageError: the disk is full or failed. The journal holds all earlier records then, and nothing of this.
        """
        if self._failed:
            raise self._failed
        with self._mutex:
            if self._end.offset >= self._segment_bytes:
                self._rotate()
            start = self._end
            header = pack_header(kind, payload)
            try:
                # A write may take only some of the bytes (on a disk that is nearly full); repeat it for the rest.
                left = [memoryview(header), memoryview(payload)]
                offset = start.offset
                while left:
                    written = os.pwritev(self._fds[-1], left, offset)
                    offset += written
                    while left and written >= len(left[0]):
                        written -= len(left.pop(0))
                    if left:
                        left[0] = left[0][written:]
            except OSError as exc:
                # Take back what was written of the record, so that the segment ends with a complete one.
                os.ftruncate(self._fds[-1], start.offset)
                raise cannot_write(_path(self.directory, start.segment), exc) from exc
            self._end = Position(start.segment, offset)
            self._unsynced_bytes += offset - start.offset
            if self._unsynced_bytes >= self._sync_bytes:
                self.due.set()
            return start

    def sync(self) -> Position:
        """Sync to the disk everything that was appended before this call.

        Returns:
            A position: all records before it survive a crash of the machine.

        Raises:
            StorageError: the disk failed. It is unknown then what it holds, so the journal accepts no further records.
        """
        with self._syncing:
            if self._failed:
                raise self._failed
            with self._mutex:
                # Appending goes on during the sync and may fill further segments. Their files are closed only by a
                # later sync, so the ones listed here stay open until this sync is done.
                fds, end = list(self._fds), self._end
                self._unsynced_bytes = 0
                self.due.clear()
            if end == self._synced:
                return end
            try:
                if len(fds) > 1 or self._synced is None:  # there are new files
                    sync_directory(self.directory)
                for i, fd in enumerate(fds):
                    # Oldest first: once the segment before is on the disk, this one's start need not state its size any
                    # more, which 0 says.
                    if i > 0:
                        os.pwrite(fd, pack_start(0), len(MAGIC))
                    os.fsync(fd)
            except OSError as exc:
                self._failed = cannot_write(self.directory, exc)
                raise self._failed from exc
            with self._mutex:
                del self._fds[: len(fds) - 1]
            for fd in fds[:-1]:
                os.close(fd)
            self._synced = end
            return end

    def read(self, start: Position | None = None) -> Iterator[tuple[Position, Kind, bytes]]:
        """Iterate over records up to the journal's end at the time of the call.

        Args:
            start: Position of the first record; None: the oldest one.

        Yields:
            Position, kind and payload of each record.

        Raises:
            StorageError: the position is not in the journal, or a record is damaged.
        """
        at, end = start or self.start, self._end
        if not self.start <= at <= end:
            raise StorageError(
                f"{self.directory}: position {tuple(at)} asked for, but the journal reaches from {tuple(self.start)} "
                f"to {tuple(end)}; put back what was removed from it, or go on from a copy of the run"
            )
        for number in range(at.segment, end.segment + 1):
            path = _path(self.directory, number)
            try:
                with path.open("rb") as file:
                    size = end.offset if number == end.segment else os.fstat(file.fileno()).st_size
                    offset = at.offset if number == at.segment else len(SEGMENT_START)
                    for where, kind, payload in records(file, path, offset, size):
                        yield Position(number, where), kind, payload
            except OSError as exc:
                raise cannot_read(path, exc) from exc

    def drop_before(self, position: Position) -> None:
        """Delete the journal's files whose records all lie before a position.

        Raises:
            StorageError: the folder is not writable.
        """
        if position.segment <= self._first:
            return
        try:
            for number in range(self._first, min(position.segment, self._end.segment)):
                _path(self.directory, number).unlink()
                self._first = number + 1  # at once, so that it is true even if the next deletion fails
            sync_directory(self.directory)
        except OSError as exc:
            raise cannot_write(self.directory, exc) from exc

    def close(self) -> None:
        """Sync, then close all files and release the lock on the folder.

        Raises:
            StorageError: the sync failed; the files are closed all the same.
        """
        try:
            self.sync()
        finally:
            for fd in (*self._fds, self._lock_fd):
                os.close(fd)

    def _rotate(self) -> None:
        """Begin a new file of the journal, which states the size of the full one before; does not wait for the disk."""
        number = self._end.segment + 1
        path = _path(self.directory, number)
        try:
            self._fds.append(create(path, self._end.offset))
        except OSError as exc:
            raise cannot_write(path, exc) from exc
        self._end = Position(number, len(SEGMENT_START))


def _path(directory: Path, number: int) -> Path:
    """Return the path of the journal's file of this number."""
    return directory / f"{number:010d}.journal"


def _segments(directory: Path) -> list[int]:
    """Return the numbers of the journal's files in a folder, rising by 1; a missing one is an error."""
    numbers = sorted(int(m[1]) for p in directory.iterdir() if (m := _NAME.fullmatch(p.name)))
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            raise StorageError(f"{_path(directory, before + 1)} is missing; restore it from a copy")
    return numbers


def _cut_unfinished(directory: Path, numbers: list[int]) -> tuple[int, int]:
    """Repair the journal after a crash: cut an incomplete record off, and delete the files behind it.

    A record may be incomplete in the newest segment and in those before it that were not synced, which the start of the
    following segment tells. What lies behind an incomplete record was never synced, so deleting it breaks no promise.

    Args:
        directory: Folder of the segments.
        numbers: Numbers of the segments, rising; those of deleted segments are removed from the list.

    Returns:
        Index in `numbers` of the first segment that may not have been synced, and the byte at which the records of the
        newest remaining segment end.
    """
    paths = [_path(directory, number) for number in numbers]
    # Backwards from the newest segment to the first one that may not have been synced: its follower states its size.
    checked = len(numbers) - 1
    expected: list[int] = [0]  # sizes in bytes that segments from `checked` on must have; 0 for the newest: unknown
    while checked > 0 and (before := bytes_before(paths[checked])) != 0:
        expected.insert(0, before or 0)
        checked -= 1
    # Forwards from there to the first segment that is incomplete: it becomes the newest one.
    newest = checked
    while True:
        path = paths[newest]
        end, size = sound_end(path), path.stat().st_size
        if end < max(size, expected[newest - checked]) or newest == len(paths) - 1:
            break
        newest += 1
    for behind in reversed(paths[newest + 1 :]):
        log.warning("%s: deleted, because a crash left the segment before it incomplete", behind)
        behind.unlink()
        sync_directory(directory)
        numbers.pop()
    if end < size or not end:
        log.warning("%s: cut off %d bytes of an incomplete record", path, size - end)
        with path.open("r+b") as file:
            file.truncate(end)
            if not end:  # not even the segment's start was complete: write it again
                file.seek(0)
                end = file.write(MAGIC + pack_start(paths[newest - 1].stat().st_size if newest else 0))
    return checked, end
