"""The files of a checkpoint, and reading them: the learner resumes from one, `covey evaluate` takes policies from it.

    checkpoints/00000007/state.json            everything that is no array; "members": their metadata
    checkpoints/00000007/members.safetensors   "<member_id>/<network key>/<kind>/<name>": arrays without padding; kinds
                                               are params, target, first_moment and second_moment
    checkpoints/00000007/manifest.json         size and SHA-256 of the other two
    checkpoints/tmp-*                          being written, or being deleted; never read

A checkpoint appears under its number in one rename, after everything in it was synced.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from covey.errors import StorageError
from covey.networks import NetworkSpec, Params
from covey.run.files import cannot_read
from covey.run.state_upgrades import upgraded

log = logging.getLogger(__name__)

Tensors = dict[str, NDArray[np.generic]]
"""Arrays of all members by their full names."""

STATE, TENSORS, MANIFEST = "state.json", "members.safetensors", "manifest.json"
MAX_HEADER_BYTES = 32 << 20
"""Bytes of the safetensors header: parsing it takes many times its length in memory."""

_NUMBER = re.compile(r"\d{8,}")


def checkpoint_paths(directory: Path) -> list[Path]:
    """Paths of all checkpoints of a run, oldest first, damaged ones included; none if the directory does not exist.

    Args:
        directory: The run's directory of checkpoints.

    Raises:
        StorageError: the directory cannot be listed.
    """
    try:
        found = [p for p in directory.iterdir() if _NUMBER.fullmatch(p.name)]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise cannot_read(directory, exc) from exc
    return sorted(found, key=lambda p: int(p.name))


def read_newest(directory: Path) -> tuple[Path, dict[str, Any], Tensors]:
    """Read the newest checkpoint that is not damaged; returns its path, state and tensors.

    Logs a warning for each newer one that is damaged.

    Raises:
        StorageError: no checkpoint can be read.
    """
    problems: list[str] = []
    for path in reversed(checkpoint_paths(directory)):
        try:
            state, tensors = read_checkpoint(path)
        except StorageError as exc:
            log.warning("%s; trying the checkpoint before it", exc)
            problems.append(str(exc))
            continue
        if problems:
            log.warning("%s: taken instead of %d newer damaged one(s)", path, len(problems))
        return path, state, tensors
    raise StorageError(
        f"{directory} holds no checkpoint that can be read"
        + (f" ({'; '.join(problems)}); restore one from a copy" if problems else "; the run ended before its first one")
        + ", or start a new run"
    )


def read_checkpoint(path: Path) -> tuple[dict[str, Any], Tensors]:
    """Read one checkpoint, comparing its files with the manifest; returns its state and tensors.

    Raises:
        StorageError: a file is missing, has another size or hash, or is not what it should be.
    """
    manifest = _json_object(path / MANIFEST, _read(path / MANIFEST))
    state = _json_object(path / STATE, _verified(path, STATE, manifest))
    state = upgraded(str(path / MANIFEST), manifest.get("format"), state)
    data = _verified(path, TENSORS, manifest)
    header = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else 0
    if header > MAX_HEADER_BYTES:
        raise StorageError(f"{path / TENSORS}: header of {header} bytes, expected at most {MAX_HEADER_BYTES}")
    try:
        tensors: Tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as exc:
        raise StorageError(f"{path / TENSORS} is no safetensors file ({exc}); the checkpoint is damaged") from exc
    return state, tensors


def network_tensors(
    path: Path, tensors: Tensors, member_id: int, key: str, spec: NetworkSpec, kind: str = "params"
) -> Params:
    """The arrays of one network of a checkpoint by parameter name, compared with the network's specification.

    Args:
        path: Of the checkpoint, for errors.
        tensors: Of the checkpoint.
        member_id: Whose network.
        key: Of the network, such as "actor/speaker".
        spec: The network's architecture.
        kind: "params", "target", "first_moment" or "second_moment".

    Raises:
        StorageError: a tensor is missing, or has another shape or dtype than the spec's.
    """
    result: Params = {}
    for p in spec.parameters:
        name = tensor_name(member_id, key, kind, p.name)
        array = tensors.get(name)
        if array is None or array.shape != p.shape or array.dtype != np.float32:
            got = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise StorageError(f"{path / TENSORS}: {name} is {got}, expected float32 {p.shape}")
        result[p.name] = array.astype(np.float32)  # a copy: writable, and does not keep the whole file
    return result


def tensor_name(member_id: int, key: str, kind: str, name: str) -> str:
    """The full name of a tensor in a checkpoint."""
    return f"{member_id}/{key}/{kind}/{name}"


def _read(path: Path) -> bytes:
    """Read a file of a checkpoint.

    Raises:
        StorageError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise StorageError(f"{path}: the checkpoint is incomplete, its file {cannot_read(path, exc)}") from exc


def _verified(path: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """Read a file of a checkpoint and compare its size and hash with the manifest.

    Raises:
        StorageError: it is missing, or another file than the manifest lists.
    """
    data = _read(path / name)
    try:
        size, digest = manifest["files"][name]["bytes"], manifest["files"][name]["sha256"]
    except (KeyError, TypeError) as exc:
        raise StorageError(f"{path / MANIFEST} does not list {name}; the checkpoint is damaged") from exc
    if len(data) != size:
        raise StorageError(f"{path / name}: {len(data)} bytes, expected {size}; the checkpoint is damaged")
    if hashlib.sha256(data).hexdigest() != digest:
        raise StorageError(f"{path / name}: content has another SHA-256 than the manifest; the checkpoint is damaged")
    return data


def _json_object(path: Path, data: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        StorageError: it is none; `path` names the file.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise StorageError(f"{path} is not JSON ({exc}); the checkpoint is damaged") from exc
    if not isinstance(value, dict):
        raise StorageError(f"{path} holds {type(value).__name__}, expected an object; the checkpoint is damaged")
    return value
