"""The format of one file of the journal, a segment: a start, then records.

The start is `MAGIC`, the number of bytes that the segment before must have (0 once that segment has been synced), and a
CRC-32 of that number (`_BEFORE`).

A record is a header (`_HEADER`: payload length, kind, CRC-32 of the payload, CRC-32 of these three fields) and the
payload. Because the header has a checksum of its own, its length can be trusted: a record that a crash left incomplete
ends the file and is cut off, while a record that is followed by others must be damaged, which is an error.
"""

from __future__ import annotations

import enum
import errno
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from covey.errors import StorageError

MAGIC = b"covey journal 2\n"
_BEFORE = struct.Struct("<QI")
_HEADER = struct.Struct("<IIII")


def pack_start(before: int) -> bytes:
    """Return the bytes in a journal file's start that give the size of the file before it, with a CRC-32."""
    length = struct.pack("<Q", before)
    return length + struct.pack("<I", zlib.crc32(length))


SEGMENT_START = MAGIC + pack_start(0)
"""Start of a segment that is the first one, or follows a segment that has been synced."""


class Kind(enum.IntEnum):
    """What a record of the run's journal holds: an issued order, a received fragment, revoked orders, or a note."""

    ORDER = 1  # an IssuedOrder message, appended before the order is sent
    FRAGMENT = 2  # a ReceivedFragment message, whether the fragment was accepted or refused
    REVOKED = 3  # a RevokedOrders message
    NOTE = 4  # a JSON object with anything else that a restart must know


def create(path: Path, before: int) -> int:
    """Create a file of the journal with its start, and return the open file descriptor.

    Args:
        path: The file; if a full disk left an incomplete one there, it is overwritten.
        before: Size in bytes of the segment before, which has not been synced; 0 if it has, or if there is none.

    Raises:
        OSError: the file cannot be written; nothing of it remains.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        if os.write(fd, MAGIC + pack_start(before)) < len(SEGMENT_START):
            raise OSError(errno.ENOSPC, "no room for the start")
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return fd


def bytes_before(path: Path) -> int | None:
    """Read from the start of a journal file how many bytes the file before it must have.

    Returns:
        The size; 0 if the segment before has been synced; None if this segment's start was never written to the disk.
    """
    with path.open("rb") as file:
        data = file.read(len(SEGMENT_START))
    if len(data) < len(SEGMENT_START) or not data.strip(b"\0"):
        return None
    _check_start(path, data)
    length: int = _BEFORE.unpack_from(data, len(MAGIC))[0]
    return length


def pack_header(kind: Kind, payload: bytes) -> bytes:
    """Return the header of a journal record: length of its content, kind of record, and checksums."""
    # The fourth field protects the three before it, the length above all.
    fields = (len(payload), kind, zlib.crc32(payload))
    return _HEADER.pack(*fields, zlib.crc32(struct.pack("<III", *fields)))


def _damage(path: Path, offset: int, what: str) -> StorageError:
    """Make an error for a damaged journal record, which says where it is and what can be done."""
    return StorageError(
        f"{path}: damaged record at byte {offset} ({what}); restore the file from a copy, or give up what follows "
        f"with: truncate -s {offset} {path}"
    )


def _header(path: Path, offset: int, data: bytes) -> tuple[int, Kind, int]:
    """Check the header of the journal record at `offset`; returns its length, kind and checksum."""
    length, kind, checksum, own = _HEADER.unpack(data)
    if zlib.crc32(data[:12]) != own:
        raise _damage(path, offset, "its header has another checksum")
    if kind not in list(Kind):
        raise _damage(path, offset, f"unknown kind {kind}; a newer covey may have written it")
    return length, Kind(kind), checksum


def records(file: BinaryIO, path: Path, offset: int, size: int) -> Iterator[tuple[int, Kind, bytes]]:
    """Iterate over the records between two bytes of a journal file, all of which must be complete.

    Args:
        file: The segment, open for reading.
        path: Its path, for errors.
        offset: Byte at which the first record starts.
        size: Byte at which the last record ends.

    Yields:
        Offset, kind and payload of each record.

    Raises:
        StorageError: the segment's start or a record is damaged.
    """
    _check_start(path, file.read(len(SEGMENT_START)))
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


def _check_start(path: Path, data: bytes) -> None:
    """Raise a `StorageError` unless these first bytes of a journal file are a valid start."""
    if data[: len(MAGIC)] != MAGIC:
        raise StorageError(f"{path} is not a journal segment of this version of covey; restore it from a copy")
    if len(data) < len(SEGMENT_START) or zlib.crc32(data[len(MAGIC) : -4]) != int.from_bytes(data[-4:], "little"):
        raise StorageError(f"{path}: its first {len(SEGMENT_START)} bytes are damaged; restore it from a copy")


def sound_end(path: Path) -> int:
    """Find the end of the last complete record in a journal file that a crash may have cut short.

    A crash can leave an incomplete last record, or zeros in place of data that never reached the disk. Anything else,
    such as a wrong checksum with further data behind it, is damage.

    Returns:
        Offset in bytes; 0 if not even the segment's start is there.

    Raises:
        StorageError: the segment is damaged.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(len(SEGMENT_START))
        if len(start) < len(SEGMENT_START) or not (start.strip(b"\0") or _has_data_left(file)):
            return 0
        _check_start(path, start)
        offset = len(SEGMENT_START)
        while offset + _HEADER.size <= size:
            data = file.read(_HEADER.size)
            # A header that was written only in part ends in a zero byte, and only zeros follow it.
            if (
                not data[-1]
                and zlib.crc32(data[:12]) != int.from_bytes(data[12:], "little")
                and not _has_data_left(file)
            ):
                return offset
            length, _, checksum = _header(path, offset, data)
            following = offset + _HEADER.size + length
            if following > size:
                return offset
            if zlib.crc32(file.read(length)) != checksum:
                # A payload that never reached the disk, in the last record of all.
                if following == size or not _has_data_left(file):
                    return offset
                raise _damage(path, offset, "its content has another checksum")
            offset = following
        return offset


def _has_data_left(file: BinaryIO) -> bool:
    """Whether any byte from the file's current position on is not zero; moves the position to the end."""
    return any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(1 << 20), b""))
