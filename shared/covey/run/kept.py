"""Policies that a run keeps beside its checkpoints: the best one, and the elites of its generations.

    best/             the best policy so far, as `covey export` writes one
    best/score.json   whose it is, of which generation, and its fitness
    elites/7/         the same of the fittest member of generation 7
    *.tmp             being written, or being deleted; never read
    *.old             the one before, while another takes its place

A folder appears under its name in one rename, after everything in it was synced.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covey.run.directory import SCORE
from covey.run.exported import write_policies
from covey.run.files import cannot_write, sync_directory, write_synced

if TYPE_CHECKING:
    from covey.run.trained import TrainedMember

_NEW, _OLD = ".tmp", ".old"


def write_kept(folder: Path, member: TrainedMember, score: dict[str, Any]) -> None:
    """Write a member's policies and score into a folder that appears as a whole, in the place of the one before.

    Raises:
        StorageError: it cannot be written; the one before stays.
    """
    new, old = _new(folder), _old(folder)
    try:
        if not folder.parent.exists():
            folder.parent.mkdir()
            sync_directory(folder.parent.parent)
        put_back(folder)
        write_policies(member, new)
        for file in new.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        write_synced(new / SCORE, json.dumps(score, indent=1).encode() + b"\n")
        sync_directory(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync_directory(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as exc:
        with contextlib.suppress(OSError):
            put_back(folder)
        raise cannot_write(folder, exc) from exc


def put_back(folder: Path) -> None:
    """Undo what was cut short when a folder was written: the one before comes back, what was half written goes.

    Raises:
        OSError: as the system says.
    """
    new, old = _new(folder), _old(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)


def drop_kept(folder: Path) -> None:
    """Delete a folder; a crash in the middle leaves nothing under its name.

    Raises:
        StorageError: the disk is not writable.
    """
    try:
        put_back(folder)
        if folder.exists():
            shutil.rmtree(folder.rename(_new(folder)))
    except OSError as exc:
        raise cannot_write(folder, exc) from exc


def cut_short(directory: Path) -> list[Path]:
    """The folders in a directory whose writing or deletion a crash may have cut short."""
    return sorted({p.with_suffix("") for p in directory.glob("*.*") if p.suffix in (_NEW, _OLD)})


def _new(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_NEW}")


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_OLD}")
