"""Writes and loads checkpoints: state and members as JSON, weights as safetensors, in a folder that appears at once.

`covey.run.checkpoint_format` describes the format.
"""

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

from covey.config import Hyperparameters
from covey.errors import ConfigError, StorageError
from covey.networks import NetworkSpec
from covey.networks.normalisation import Moments
from covey.run.checkpoint_format import (
    MANIFEST,
    STATE,
    TENSORS,
    Tensors,
    checkpoint_paths,
    network_tensors,
    read_checkpoint,
    tensor_name,
)
from covey.run.files import cannot_write, sync_directory, write_synced
from covey.run.state_upgrades import FORMAT
from covey.wire.spaces_json import float_from_json, float_to_json
from covey_server.member import Member, Network, ReturnScale, Temperature

log = logging.getLogger(__name__)

_FLOATS = ("fitness", "fitness_stderr")
"""Fields of a member that may be NaN or infinite, which JSON numbers cannot be."""

_TENSOR_KINDS = ("params", "first_moment", "second_moment")
"""Fields of a `Network` that hold arrays, besides the optional target."""

_MOMENTS = ("observed", "earned")
"""Fields of a `Network` that hold statistics, in the order of its fields; networks without them are stored without."""


def save_checkpoint(directory: Path, state: Mapping[str, Any], members: Sequence[Member]) -> Path:
    """Write a checkpoint that is either complete or absent after a crash; it is on the disk when this returns.

    Args:
        directory: Folder of the run's checkpoints; created if it is missing.
        state: The learner's state as JSON, to which "members" is added.
        members: The population, in its order.

    Returns:
        The new checkpoint's folder, numbered one more than the newest one before.

    Raises:
        StorageError: the disk is full or not writable; earlier checkpoints are untouched.
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
    # All files are synced under a temporary name; the renaming makes the checkpoint visible, and the last sync makes
    # the renaming durable.
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
    """Delete all checkpoints but the newest ones.

    Args:
        directory: Folder of the run's checkpoints.
        keep: Number of checkpoints that remain, at least 1.

    Raises:
        StorageError: the folder is not writable.
    """
    for old in checkpoint_paths(directory)[:-keep]:
        try:
            # Renamed first: a crash in the middle of a deletion must not leave half a folder named like a checkpoint.
            shutil.rmtree(old.rename(directory / f"tmp-{old.name}-old"))
        except OSError as exc:
            raise cannot_write(old, exc) from exc


def set_aside_damaged(directory: Path) -> None:
    """Rename checkpoints that are damaged and newer than the newest sound one, so that nothing takes them for sound.

    Without a sound checkpoint nothing is renamed.

    Args:
        directory: Folder of the run's checkpoints.

    Raises:
        StorageError: the folder is not writable.
    """
    # Newest first; damaged ones are renamed only once a sound one is known to be behind them.
    damaged = []
    for path in reversed(checkpoint_paths(directory)):
        try:
            read_checkpoint(path)
        except StorageError as exc:
            damaged.append((path, exc))
            continue
        for other, problem in damaged:
            # Its number is given again to the next checkpoint, which may be damaged too.
            aside, times = directory / f"damaged-{other.name}", 1
            while aside.exists():
                times += 1
                aside = directory / f"damaged-{other.name}-{times}"
            try:
                other.rename(aside)
            except OSError as exc:
                raise cannot_write(other, exc) from exc
            log.warning("%s; set aside as %s, going on from %s", problem, aside.name, path.name)
        return


def _safetensors(tensors: Tensors) -> list[bytes | memoryview]:
    """Make a safetensors file as pieces to be written one after another: header length, header, arrays' memory."""
    header: dict[str, dict[str, Any]] = {}
    pieces: list[bytes | memoryview] = []
    end = 0
    for name, array in tensors.items():
        # Offsets count from the end of the header.
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (end, end + array.nbytes)}
        pieces.append(array.ravel().view(np.uint8).data)
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # pad the header to 8 bytes, so that arrays are aligned in the file
    return [struct.pack("<Q", len(text)), text, *pieces]


def _size_and_hash(pieces: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Return a file's entry in the checkpoint's list of files: size in bytes and SHA-256 of its content."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}


def load_members(path: Path, state: Mapping[str, Any], tensors: Tensors, initial: Hyperparameters) -> list[Member]:
    """Build the population members of a checkpoint whose files have been read and checked.

    Args:
        path: The checkpoint's folder, for errors.
        state: Its state.
        tensors: All its tensors, by name.
        initial: Hyperparameters as the run's configuration has them: those that the checkpoint does not name yet.

    Returns:
        The members in the population's order.

    Raises:
        StorageError: another version of covey, or another algorithm, wrote it.
    """
    try:
        return [member_from_json(path, m, tensors, initial) for m in state["members"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ConfigError) as exc:
        raise StorageError(
            f"{path / STATE}: its members cannot be read ({type(exc).__name__}: {exc}); was it written by another "
            "version of covey?"
        ) from exc


def member_to_json(member: Member) -> dict[str, Any]:
    """Return a population member as JSON, without its arrays, which a checkpoint stores as tensors."""
    data = {
        f.name: getattr(member, f.name)
        for f in dataclasses.fields(member)
        if f.name not in ("networks", "hyperparameters", *_FLOATS)
    }
    for name in _FLOATS:
        value = getattr(member, name)
        data[name] = None if value is None else float_to_json(value)
    data["hyperparameters"] = member.hyperparameters.numbers()
    data["networks"] = {
        key: {
            "spec": n.spec.to_json(),
            "adam_steps": n.adam_steps,
            "target": n.target is not None,
            "scale": dataclasses.astuple(n.scale),
            **{name: moments.to_json() for name in _MOMENTS if (moments := getattr(n, name)) is not None},
            **({} if n.temperature is None else {"temperature": _temperature_to_json(n.temperature)}),
        }
        for key, n in member.networks.items()
    }
    return data


def member_from_json(path: Path, data: Mapping[str, Any], tensors: Tensors, initial: Hyperparameters) -> Member:
    """Build a member from the JSON of `member_to_json` and the tensors of a checkpoint.

    Args:
        path: The checkpoint's folder, for errors.
        data: The member's JSON.
        tensors: All tensors of the checkpoint, by name.
        initial: Hyperparameters as configured.

    Raises:
        StorageError: a tensor is missing or has another shape.
        ConfigError, KeyError, TypeError, ValueError: the JSON is not that of a member.
    """
    fields = dict(data)
    member_id = int(fields["member_id"])
    for name in _FLOATS:
        fields[name] = None if fields[name] is None else float_from_json(fields[name])
    networks = {}
    for key, network in fields["networks"].items():
        spec = NetworkSpec.from_json(network["spec"])
        params, first, second = (network_tensors(path, tensors, member_id, key, spec, kind) for kind in _TENSOR_KINDS)
        target = network_tensors(path, tensors, member_id, key, spec, "target") if network["target"] else None
        mean, std, rounds = network["scale"]
        scale = ReturnScale(float(mean), float(std), int(rounds))
        observed, earned = (Moments.from_json(network[name]) if name in network else None for name in _MOMENTS)
        temperature = _temperature_from_json(network["temperature"]) if "temperature" in network else None
        steps = int(network["adam_steps"])
        networks[key] = Network(spec, params, target, first, second, steps, scale, observed, earned, temperature)
    fields["networks"] = networks
    fields["hyperparameters"] = initial.changed(**fields["hyperparameters"])
    return Member(**fields)


def _temperature_to_json(temperature: Temperature) -> list[Any]:
    *numbers, steps = dataclasses.astuple(temperature)
    return [*map(float_to_json, numbers), steps]


def _temperature_from_json(data: Any) -> Temperature:
    log_alpha, first, second, steps = data
    return Temperature(float_from_json(log_alpha), float_from_json(first), float_from_json(second), int(steps))


def _member_tensors(member: Member) -> Tensors:
    """Return all arrays of a population member (weights, targets, Adam moments) by their names in a checkpoint."""
    result: Tensors = {}
    for key, network in member.networks.items():
        if network.released:
            raise RuntimeError(f"{key} of member {member.member_id} has no numbers of its own, expected it unpacked")
        by_kind = {kind: getattr(network, kind) for kind in _TENSOR_KINDS}
        if network.target is not None:
            by_kind["target"] = network.target
        for kind, params in by_kind.items():
            for name, array in params.items():
                result[tensor_name(member.member_id, key, kind, name)] = np.ascontiguousarray(array, np.float32)
    return result
