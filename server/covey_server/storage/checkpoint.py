"""Writing checkpoints in one step, and members as JSON and tensors. The format is `covey.run.checkpoint_format`'s."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covey.errors import ConfigError, StorageError
from covey.networks import NetworkSpec
from covey.run.checkpoint_format import (
    MANIFEST,
    STATE,
    TENSORS,
    Tensors,
    checkpoint_paths,
    network_tensors,
    read_checkpoint,
    read_newest,
    tensor_name,
)
from covey.run.files import cannot_write, sync_directory, write_synced
from covey.run.state_upgrades import FORMAT
from covey.wire.spaces_json import float_from_json, float_to_json
from covey_server.member import Member, Network, ReturnScale

log = logging.getLogger(__name__)

_FLOATS = ("fitness", "fitness_stderr")
_PARTS = ("params", "first_moment", "second_moment")


def save_checkpoint(directory: Path, state: Mapping[str, Any], members: Sequence[Member]) -> Path:
    """Write a checkpoint; when this returns it is on the disk.

    Args:
        directory: `checkpoints` of a run; made where it is missing.
        state: JSON; "members" is added to it.
        members: The population, in its order.

    Returns:
        The checkpoint's directory.

    Raises:
        StorageError: the disk is full or not writable; the checkpoints before it are untouched.
    """
    before = checkpoint_paths(directory)
    path = directory / f"{int(before[-1].name) + 1 if before else 1:08d}"
    temporary = directory / f"tmp-{path.name}-{os.getpid()}"
    metadata, tensors = [], {}
    for member in members:
        metadata.append(member_to_json(member))
        tensors.update(_member_tensors(member))
    files: dict[str, list[bytes | memoryview]] = {
        STATE: [json.dumps({**state, "members": metadata}).encode()],
        TENSORS: _safetensors(tensors),
    }
    listed = {name: _size_and_hash(pieces) for name, pieces in files.items()}
    files[MANIFEST] = [json.dumps({"format": FORMAT, "files": listed}).encode()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob("tmp-*"):
            shutil.rmtree(leftover)
        temporary.mkdir()
        for name, pieces in files.items():
            write_synced(temporary / name, *pieces)
        sync_directory(temporary)
        temporary.rename(path)
        sync_directory(directory)
    except OSError as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        raise cannot_write(path, exc) from exc
    return path


def drop_checkpoints(directory: Path, keep: int) -> None:
    """Delete all checkpoints but the newest `keep`, at least 1.

    Raises:
        StorageError: the directory is not writable.
    """
    for old in checkpoint_paths(directory)[:-keep]:
        try:
            # A deletion that is cut short must not leave something that looks like a checkpoint.
            shutil.rmtree(old.rename(directory / f"tmp-{old.name}-old"))
        except OSError as exc:
            raise cannot_write(old, exc) from exc


def set_aside_damaged(directory: Path) -> None:
    """Rename damaged checkpoints that are newer than a sound one: they are none of those that are kept.

    Raises:
        StorageError: the directory is not writable.
    """
    damaged = []
    for path in reversed(checkpoint_paths(directory)):
        try:
            read_checkpoint(path)
        except StorageError as exc:
            damaged.append((path, exc))
            continue
        for other, problem in damaged:
            try:
                other.rename(directory / f"damaged-{other.name}")
            except OSError as exc:
                raise cannot_write(other, exc) from exc
            log.warning("%s; set aside as damaged-%s, going on from %s", problem, other.name, path.name)
        return


def _safetensors(tensors: Tensors) -> list[bytes | memoryview]:
    """The pieces of a safetensors file: length of the header, header, and the arrays where they are, not copied."""
    header: dict[str, dict[str, Any]] = {}
    pieces: list[bytes | memoryview] = []
    end = 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (end, end + array.nbytes)}
        pieces.append(array.ravel().view(np.uint8).data)
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at multiples of their size
    return [struct.pack("<Q", len(text)), text, *pieces]


def _size_and_hash(pieces: Iterable[bytes | memoryview]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def load_newest(directory: Path) -> tuple[dict[str, Any], list[Member]]:
    """State and members of the newest sound checkpoint.

    Raises:
        StorageError: there is none, or it is of another version.
    """
    path, state, tensors = read_newest(directory)
    try:
        return state, [member_from_json(path, m, tensors) for m in state["members"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ConfigError) as exc:
        raise StorageError(
            f"{path / STATE}: its members cannot be read ({type(exc).__name__}: {exc}); was it written by another "
            "version of covey?"
        ) from exc


def member_to_json(member: Member) -> dict[str, Any]:
    """Everything of a member but its arrays."""
    data = {
        f.name: getattr(member, f.name)
        for f in dataclasses.fields(member)
        if f.name not in ("networks", "hyperparameters", *_FLOATS)
    }
    for name in _FLOATS:
        value = getattr(member, name)
        data[name] = None if value is None else float_to_json(value)
    data["hyperparameters"] = dict(member.hyperparameters)
    data["networks"] = {
        key: {
            "spec": n.spec.to_json(),
            "adam_steps": n.adam_steps,
            "target": n.target is not None,
            "scale": dataclasses.astuple(n.scale),
        }
        for key, n in member.networks.items()
    }
    return data


def member_from_json(path: Path, data: Mapping[str, Any], tensors: Tensors) -> Member:
    """Inverse of `member_to_json`, with the arrays of a checkpoint; `path` names it in errors.

    Raises:
        StorageError: a tensor is missing or has another shape.
        ConfigError, KeyError, TypeError, ValueError: no such metadata.
    """
    fields = dict(data)
    member_id = int(fields["member_id"])
    for name in _FLOATS:
        fields[name] = None if fields[name] is None else float_from_json(fields[name])
    networks = {}
    for key, network in fields["networks"].items():
        spec = NetworkSpec.from_json(network["spec"])
        parts = [network_tensors(path, tensors, member_id, key, spec, part) for part in _PARTS]
        target = network_tensors(path, tensors, member_id, key, spec, "target") if network["target"] else None
        mean, std, rounds = network["scale"]
        scale = ReturnScale(float(mean), float(std), int(rounds))
        networks[key] = Network(spec, parts[0], target, parts[1], parts[2], int(network["adam_steps"]), scale)
    fields["networks"] = networks
    return Member(**fields)


def _member_tensors(member: Member) -> Tensors:
    result: Tensors = {}
    for key, network in member.networks.items():
        parts = {part: getattr(network, part) for part in _PARTS}
        if network.target is not None:
            parts["target"] = network.target
        for part, params in parts.items():
            for name, array in params.items():
                result[tensor_name(member.member_id, key, part, name)] = np.ascontiguousarray(array, np.float32)
    return result
