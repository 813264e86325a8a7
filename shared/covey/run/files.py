"""Writing and reading the files of a run so that a crash leaves the old content or the new one, never half of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from covey.errors import DiskFullError, StorageError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cannot_write(path: Path, exc: OSError) -> StorageError:
    """The error for a write that failed; a DiskFullError if the disk or a quota is full."""
    what = f"{path} cannot be written ({os.strerror(exc.errno or 0)})"
    if exc.errno in _NO_ROOM:
        return DiskFullError(f"{what}; make room on that disk")
    return StorageError(f"{what}; make it writable, or name another place; a run that had begun goes on with --resume")


def cannot_read(path: Path, exc: OSError) -> StorageError:
    """The error for a read that failed."""
    return StorageError(f"{path} cannot be read ({os.strerror(exc.errno or 0)}); give the directory of a covey run")


def directories(folder: Path) -> list[Path]:
    """The directories in a folder, by name; none if there is no such folder."""
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def sync_directory(path: Path) -> None:
    """Make creations, renames and deletions in a directory survive a power cut.

    Raises:
        OSError: as the system says.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_synced(path: Path, *data: bytes | memoryview) -> None:
    """Write a new file, piece after piece, and wait until the disk has it; its name is safe after `sync_directory`.

    Raises:
        OSError: as the system says.
    """
    with path.open("wb") as file:
        file.writelines(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, data: Any) -> None:
    """Replace a file by JSON in one step: readers see the old text or the new one.

    It is not synced, so a power cut may lose it: only for what is written again soon, or follows from a checkpoint.

    Raises:
        StorageError: the disk is full, or the directory is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(data, indent=1) + "\n")
        temporary.replace(path)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, exc) from exc


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        StorageError: missing, unreadable, or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as exc:
        raise cannot_read(path, exc) from exc
    except (ValueError, RecursionError) as exc:
        raise StorageError(f"{path} is not JSON ({exc}); the file was damaged or is no file of covey") from exc
