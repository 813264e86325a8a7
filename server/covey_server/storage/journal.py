"""The append-only record of what the learner must not forget: orders, fragments, revocations, notes.

It lies in segments (`journal_segment`). Full ones are synced together with the newest, not when they fill; until then
the start of the one behind says how long they have to be, so that a tear in them is seen, and what lies behind it goes.
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
    """A place in the journal: number of the segment, byte in its file. Positions compare in order of appending."""

    segment: int
    offset: int


class Journal:
    """An open journal. One thread appends; `sync` may run in others.

    Appending goes straight to the system, so that a killed process loses nothing that was appended; `sync` makes it
    survive the machine as well.

    Attributes:
        due: Set when `sync_bytes` were appended since the last sync.
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
        self._fds: list[int] = []  # of the newest segment, last, and of full ones that are not on the disk yet
        self._mutex = threading.Lock()
        self._syncing = threading.Lock()
        self._failed: StorageError | None = None

    @staticmethod
    def open(directory: Path, segment_bytes: int, sync_bytes: int | None = None) -> Journal:
        """Open for appending; creates an empty one, cuts off what a crash left unfinished. What remains is durable.

        Args:
            directory: Of the segments; nobody else opens it meanwhile.
            segment_bytes: A segment that has so many is full.
            sync_bytes: Appended since the last sync, when `due` is set; None: never.

        Raises:
            StorageError: not writable, in use by another learner, damaged, or a segment is missing.
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
        """The oldest record that is kept."""
        return Position(self._first, len(SEGMENT_START))

    @property
    def position(self) -> Position:
        """Where the next record goes, unless it opens a segment."""
        return self._end

    def append(self, kind: Kind, payload: bytes) -> Position:
        """Write a record; returns where it starts.

        Raises:
            StorageError: the disk is full or failed. The record is not in the journal; all before it are, whole.
        """
        if self._failed:
            raise self._failed
        with self._mutex:
            if self._end.offset >= self._segment_bytes:
                self._rotate()
            start = self._end
            header = pack_header(kind, payload)
            try:
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
                os.ftruncate(self._fds[-1], start.offset)
                raise cannot_write(_path(self.directory, start.segment), exc) from exc
            self._end = Position(start.segment, offset)
            self._unsynced_bytes += offset - start.offset
            if self._unsynced_bytes >= self._sync_bytes:
                self.due.set()
            return start

    def sync(self) -> Position:
        """Wait until the disk has everything appended before this call; records before the result are durable.

        Raises:
            StorageError: the disk failed. What it holds is uncertain then, so the journal takes nothing more.
        """
        with self._syncing:
            if self._failed:
                raise self._failed
            with self._mutex:
                # Appending goes on meanwhile, and may fill segments; only here they are closed.
                fds, end = list(self._fds), self._end
                self._unsynced_bytes = 0
                self.due.clear()
            if end == self._synced:
                return end
            try:
                if len(fds) > 1 or self._synced is None:
                    sync_directory(self.directory)
                for i, fd in enumerate(fds):
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
        """Records from a position (the oldest, if None) to the end at the time of the call, each with its position.

        Raises:
            StorageError: the position is not in the journal, or a record is damaged.
        """
        at, end = start or self.start, self._end
        if not self.start <= at <= end:
            raise StorageError(
                f"{self.directory}: position {tuple(at)} asked for, but the journal reaches from {tuple(self.start)} "
                f"to {tuple(end)}; resume from another checkpoint"
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
        """Delete the segments that end before a position.

        Raises:
            StorageError: the directory is not writable.
        """
        if position.segment <= self._first:
            return
        try:
            for number in range(self._first, min(position.segment, self._end.segment)):
                _path(self.directory, number).unlink()
                self._first = number + 1
            sync_directory(self.directory)
        except OSError as exc:
            raise cannot_write(self.directory, exc) from exc

    def close(self) -> None:
        """Sync and close.

        Raises:
            StorageError: as `sync`.
        """
        try:
            self.sync()
        finally:
            for fd in (*self._fds, self._lock_fd):
                os.close(fd)

    def _rotate(self) -> None:
        """Open the next segment. Nothing here waits for the disk."""
        number = self._end.segment + 1
        path = _path(self.directory, number)
        try:
            self._fds.append(create(path, self._end.offset))
        except OSError as exc:
            raise cannot_write(path, exc) from exc
        self._end = Position(number, len(SEGMENT_START))


def _path(directory: Path, number: int) -> Path:
    return directory / f"{number:010d}.journal"


def _segments(directory: Path) -> list[int]:
    """Numbers of the segments, without a gap."""
    numbers = sorted(int(m[1]) for p in directory.iterdir() if (m := _NAME.fullmatch(p.name)))
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            raise StorageError(f"{_path(directory, before + 1)}: is missing; restore it from a copy")
    return numbers


def _cut_unfinished(directory: Path, numbers: list[int]) -> tuple[int, int]:
    """Cut off what a crash left unfinished, and take segments behind a tear away, from `numbers` too.

    The newest segment may end in a record cut short, and so may those that the ones behind them do not know to be on
    the disk. Nothing behind a tear was durable.

    Returns:
        Where in `numbers` the segments begin that may not be on the disk, and the end of the newest one's records.
    """
    paths = [_path(directory, number) for number in numbers]
    checked = len(numbers) - 1
    expected: list[int] = [0]  # bytes that the segments from `checked` on must have
    while checked > 0 and (before := bytes_before(paths[checked])) != 0:
        expected.insert(0, before or 0)
        checked -= 1
    newest = checked
    while True:
        path = paths[newest]
        end, size = sound_end(path), path.stat().st_size
        if end < max(size, expected[newest - checked]) or newest == len(paths) - 1:
            break
        newest += 1
    for behind in reversed(paths[newest + 1 :]):
        log.warning("%s: taken away; a crash left the segment before it unfinished", behind)
        behind.unlink()
        sync_directory(directory)
        numbers.pop()
    if end < size or not end:
        log.warning("%s: cut off %d bytes of a record that was not finished", path, size - end)
        with path.open("r+b") as file:
            file.truncate(end)
            if not end:
                file.seek(0)
                end = file.write(MAGIC + pack_start(paths[newest - 1].stat().st_size if newest else 0))
    return checked, end
