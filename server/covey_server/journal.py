"""The append-only record of what the learner must not forget: orders, fragments, revocations, notes.

A segment is `JOURNAL_MAGIC`, then records. A record is a header (`_HEADER`: payload length, kind, CRC-32 of the
payload, CRC-32 of these three) and the payload. The header's own checksum tells a record that a crash cut short, which
is cut off, from damage, which is an error: a length that is not to be trusted never hides what follows it.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import itertools
import logging
import os
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from covey.errors import StorageError
from covey.files import cannot_read, cannot_write, sync_directory

log = logging.getLogger(__name__)

JOURNAL_MAGIC = b"covey journal 1\n"
_HEADER = struct.Struct("<IIII")
_NAME = re.compile(r"(\d{10})\.journal")


class Kind(enum.IntEnum):
    """What a record holds."""

    ORDER = 1  # IssuedOrder, before the order leaves
    FRAGMENT = 2  # ReceivedFragment, accepted or refused
    REVOKED = 3  # RevokedOrders
    NOTE = 4  # a JSON object: what else a restart must know


class Position(NamedTuple):
    """A place in the journal: number of the segment, byte in its file. Positions compare in order of appending."""

    segment: int
    offset: int


class Journal:
    """An open journal. One thread appends; `sync` may run in another.

    Appending goes straight to the system, so that a killed process loses nothing that was appended; `sync` makes it
    survive the machine as well.
    """

    def __init__(self, directory: Path, segment_bytes: int, lock_fd: int, first: int, end: Position, fd: int) -> None:
        self.directory = directory
        self._segment_bytes = segment_bytes
        self._lock_fd = lock_fd
        self._first = first
        self._end = end
        self._fd = fd
        self._mutex = threading.Lock()
        self._failed: StorageError | None = None

    @staticmethod
    def open(directory: Path, segment_bytes: int) -> Journal:
        """Open for appending; creates an empty one, cuts off a record that a crash left unfinished.

        Raises:
            StorageError: not writable, in use by another learner, damaged, or a segment is missing.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            raise cannot_write(directory, exc) from exc
        fd = None
        try:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise StorageError(f"{directory}: another learner writes this run; end it first") from exc
            numbers = _segments(directory)
            if not numbers:
                fd = _create(directory, 1)
                return Journal(directory, segment_bytes, lock_fd, 1, Position(1, len(JOURNAL_MAGIC)), fd)
            path = _path(directory, numbers[-1])
            offset = _sound_end(path)
            fd = os.open(path, os.O_RDWR)
            size = os.fstat(fd).st_size
            if offset < size or not offset:
                log.warning("%s: cut off %d bytes of a record that was not finished", path, size - offset)
                os.ftruncate(fd, offset)
                if not offset:
                    offset = os.pwrite(fd, JOURNAL_MAGIC, 0)
                os.fsync(fd)
            return Journal(directory, segment_bytes, lock_fd, numbers[0], Position(numbers[-1], offset), fd)
        except BaseException as exc:
            for opened in (lock_fd, fd):
                if opened is not None:
                    os.close(opened)
            if isinstance(exc, OSError):
                raise cannot_write(directory, exc) from exc
            raise

    @property
    def start(self) -> Position:
        """The oldest record that is kept."""
        return Position(self._first, len(JOURNAL_MAGIC))

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
            header = _pack_header(kind, payload)
            try:
                left = [memoryview(header), memoryview(payload)]
                offset = start.offset
                while left:
                    written = os.pwritev(self._fd, left, offset)
                    offset += written
                    while left and written >= len(left[0]):
                        written -= len(left.pop(0))
                    if left:
                        left[0] = left[0][written:]
            except OSError as exc:
                os.ftruncate(self._fd, start.offset)
                raise cannot_write(_path(self.directory, start.segment), exc) from exc
            self._end = Position(start.segment, offset)
            return start

    def sync(self) -> Position:
        """Wait until the disk has everything appended before this call; records before the result are durable.

        Raises:
            StorageError: the disk failed. What it holds is uncertain then, so the journal takes nothing more.
        """
        if self._failed:
            raise self._failed
        with self._mutex:
            end = self._end
            # Of its own: appending goes on meanwhile, and may close the segment.
            fd = os.dup(self._fd)
        try:
            self._sync(fd, end.segment)
        finally:
            os.close(fd)
        return end

    def _sync(self, fd: int, segment: int) -> None:
        try:
            os.fsync(fd)
        except OSError as exc:
            self._failed = cannot_write(_path(self.directory, segment), exc)
            raise self._failed from exc

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
                    offset = at.offset if number == at.segment else len(JOURNAL_MAGIC)
                    for where, kind, payload in _records(file, path, offset, size):
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
            os.close(self._fd)
            os.close(self._lock_fd)

    def _rotate(self) -> None:
        """Open the next segment, after the full one is on the disk: only the newest can be unfinished after a crash."""
        number = self._end.segment + 1
        self._sync(self._fd, self._end.segment)
        try:
            fd = _create(self.directory, number)
        except OSError as exc:
            raise cannot_write(_path(self.directory, number), exc) from exc
        os.close(self._fd)
        self._fd, self._end = fd, Position(number, len(JOURNAL_MAGIC))


def _path(directory: Path, number: int) -> Path:
    return directory / f"{number:010d}.journal"


def _segments(directory: Path) -> list[int]:
    """Numbers of the segments, without a gap."""
    numbers = sorted(int(m[1]) for p in directory.iterdir() if (m := _NAME.fullmatch(p.name)))
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            raise StorageError(f"{_path(directory, before + 1)}: is missing; restore it from a copy")
    return numbers


def _create(directory: Path, number: int) -> int:
    """A new segment, open; a file that a full disk left half made is taken over."""
    path = _path(directory, number)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        if os.write(fd, JOURNAL_MAGIC) < len(JOURNAL_MAGIC):
            raise OSError(errno.ENOSPC, "no room for the magic")
        sync_directory(directory)
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return fd


def _pack_header(kind: Kind, payload: bytes) -> bytes:
    fields = (len(payload), kind, zlib.crc32(payload))
    return _HEADER.pack(*fields, zlib.crc32(struct.pack("<III", *fields)))


def _damage(path: Path, offset: int, what: str) -> StorageError:
    return StorageError(
        f"{path}: damaged record at byte {offset} ({what}); restore the file from a copy, or give up what follows "
        f"with: truncate -s {offset} {path}"
    )


def _header(path: Path, offset: int, data: bytes) -> tuple[int, Kind, int]:
    """Payload length, kind and checksum."""
    length, kind, checksum, own = _HEADER.unpack(data)
    if zlib.crc32(data[:12]) != own:
        raise _damage(path, offset, "its header has another checksum")
    if kind not in list(Kind):
        raise _damage(path, offset, f"unknown kind {kind}; a newer covey may have written it")
    return length, Kind(kind), checksum


def _records(file: BinaryIO, path: Path, offset: int, size: int) -> Iterator[tuple[int, Kind, bytes]]:
    """Records between two bytes of a segment; every one must be whole."""
    _check_magic(path, file.read(len(JOURNAL_MAGIC)))
    file.seek(offset)
    while offset < size:
        data = file.read(_HEADER.size)
        if len(data) < _HEADER.size:
            raise _damage(path, offset, "the file ends within its header")
        length, kind, checksum = _header(path, offset, data)
        payload = file.read(length) if offset + _HEADER.size + length <= size else b""
        if len(payload) < length:
            raise _damage(path, offset, "the file ends within it")
        if zlib.crc32(payload) != checksum:
            raise _damage(path, offset, "its content has another checksum")
        yield offset, kind, payload
        offset += _HEADER.size + length


def _check_magic(path: Path, data: bytes) -> None:
    if data != JOURNAL_MAGIC:
        raise StorageError(f"{path}: is no segment of a covey journal of this version; restore it from a copy")


def _sound_end(path: Path) -> int:
    """Where the newest segment's last whole record ends; 0 if not even its magic is there.

    What a crash can leave behind it is a record cut short, or one whose content or all of which never reached the disk
    (zeros, or a last record with another checksum); anything else is damage.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        magic = file.read(len(JOURNAL_MAGIC))
        if len(magic) < len(JOURNAL_MAGIC) or not (magic.strip(b"\0") or _rest_is_set(file)):
            return 0
        _check_magic(path, magic)
        offset = len(JOURNAL_MAGIC)
        while offset + _HEADER.size <= size:
            data = file.read(_HEADER.size)
            if not data.strip(b"\0") and not _rest_is_set(file):
                return offset
            length, _, checksum = _header(path, offset, data)
            following = offset + _HEADER.size + length
            if following > size:
                return offset
            if zlib.crc32(file.read(length)) != checksum:
                if following == size:
                    return offset
                raise _damage(path, offset, "its content has another checksum")
            offset = following
        return offset


def _rest_is_set(file: BinaryIO) -> bool:
    """Whether any byte from here on is not zero."""
    return any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(1 << 20), b""))
