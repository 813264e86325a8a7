"""The bytes of one journal segment: its start, then records.

A record is a header (`_HEADER`: payload length, kind, CRC-32 of the payload, CRC-32 of these three) and the payload.
The header's own checksum tells a record that a crash cut short, which is cut off, from damage, which is an error: a
length that is not to be trusted never hides what follows it.

A start is `MAGIC` and `_BEFORE`: how many bytes the segment before has to have, 0 once that one is on the disk; and
the CRC-32 of that.
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
    """What follows the magic: how long the segment before has to be."""
    length = struct.pack("<Q", before)
    return length + struct.pack("<I", zlib.crc32(length))


SEGMENT_START = MAGIC + pack_start(0)
"""How a segment begins when the one before it, if there is one, is on the disk."""


class Kind(enum.IntEnum):
    """What a record holds."""

    ORDER = 1  # IssuedOrder, before the order leaves
    FRAGMENT = 2  # ReceivedFragment, accepted or refused
    REVOKED = 3  # RevokedOrders
    NOTE = 4  # a JSON object: what else a restart must know


def create(path: Path, before: int) -> int:
    """A new segment behind one of `before` bytes, open; a file that a full disk left half made is taken over."""
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
    """How long the segment before this one has to be; 0 where it is on the disk, None where this one has no start."""
    with path.open("rb") as file:
        data = file.read(len(SEGMENT_START))
    if len(data) < len(SEGMENT_START) or not data.strip(b"\0"):
        return None
    _check_start(path, data)
    length: int = _BEFORE.unpack_from(data, len(MAGIC))[0]
    return length


def pack_header(kind: Kind, payload: bytes) -> bytes:
    """What a record begins with."""
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


def records(file: BinaryIO, path: Path, offset: int, size: int) -> Iterator[tuple[int, Kind, bytes]]:
    """Records between two bytes of a segment; every one must be whole."""
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
    if data[: len(MAGIC)] != MAGIC:
        raise StorageError(f"{path}: is no segment of a covey journal of this version; restore it from a copy")
    if len(data) < len(SEGMENT_START) or zlib.crc32(data[len(MAGIC) : -4]) != int.from_bytes(data[-4:], "little"):
        raise StorageError(f"{path}: its first {len(SEGMENT_START)} bytes are damaged; restore it from a copy")


def sound_end(path: Path) -> int:
    """Where the last whole record ends of a segment that may not be on the disk; 0 if not even its start is there.

    What a crash can leave behind it is a record cut short, or one whose content or all of which never reached the disk
    (zeros from there on, or a last record with another checksum); anything else is damage.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(len(SEGMENT_START))
        if len(start) < len(SEGMENT_START) or not (start.strip(b"\0") or _rest_is_set(file)):
            return 0
        _check_start(path, start)
        offset = len(SEGMENT_START)
        while offset + _HEADER.size <= size:
            data = file.read(_HEADER.size)
            if not data[-1] and zlib.crc32(data[:12]) != int.from_bytes(data[12:], "little") and not _rest_is_set(file):
                return offset
            length, _, checksum = _header(path, offset, data)
            following = offset + _HEADER.size + length
            if following > size:
                return offset
            if zlib.crc32(file.read(length)) != checksum:
                if following == size or not _rest_is_set(file):
                    return offset
                raise _damage(path, offset, "its content has another checksum")
            offset = following
        return offset


def _rest_is_set(file: BinaryIO) -> bool:
    """Whether any byte from here on is not zero."""
    return any(chunk.strip(b"\0") for chunk in iter(lambda: file.read(1 << 20), b""))
