"""What a restarted learner takes over from the start before it: the number of its start, and the port to listen on."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from covey.errors import ConfigError, StorageError
from covey.run.checkpoint_format import checkpoint_paths, read_checkpoint
from covey.run.directory import RunDirectory
from covey.run.files import cannot_write, read_json, sync_directory, write_synced
from covey.v1.fragment_pb2 import IssuedOrder
from covey.wire.channel import parse_address
from covey_server.storage.journal import Journal, Kind

logger = logging.getLogger("covey.learner")

EPOCH_BIT = 40
"""Ids of a start's orders count up from its epoch, shifted left by so many bits."""

MAX_EPOCH = (1 << (63 - EPOCH_BIT)) - 1
"""Largest epoch whose orders' ids are positive 64-bit integers."""

UNTRACED_STARTS = 1000
"""Epochs left out when the file is lost: starts of which a power cut took every record that named an order."""


def next_epoch(run: RunDirectory, journal: Journal) -> int:
    """Epoch of this learner process: how often the run's learner was started before, 0 for a new run.

    Order ids contain the epoch. The next one is on the disk before this returns, so no two processes share an epoch and
    no order id is ever used twice, even after a crash.

    Where the file with the next epoch is lost or damaged, the epoch is above all that the run knows of: an order is
    journalled before it leaves, and a journal's segments are deleted once a checkpoint, which has its epoch, replaces
    them. Orders that were journalled but not yet synced when the machine lost power are covered by a gap of
    `UNTRACED_STARTS` epochs.

    Args:
        run: The run's directory.
        journal: The run's journal.

    Raises:
        StorageError: the file cannot be written, or the journal has to be read and is damaged.
    """
    path = run.path / "epoch.json"
    used = path.exists() or bool(checkpoint_paths(run.checkpoints)) or journal.start < journal.position
    epoch = 0
    if used:
        try:
            epoch = _stored_epoch(run)
        except StorageError as exc:
            epoch = max(_known_epochs(run, journal), default=-1) + 1 + UNTRACED_STARTS
            logger.warning("%s; numbers of orders go on from epoch %d, which no order of this run has", exc, epoch)
    # Written beside it and renamed, so that a crash leaves either the old file or the new one.
    try:
        temporary = path.with_suffix(".tmp")
        write_synced(temporary, json.dumps({"next": epoch + 1}).encode())
        temporary.replace(path)
        sync_directory(run.path)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    return epoch


def port_before(run: RunDirectory) -> int:
    """Port on which the run's learner listened before it was killed, so that its actors find it again; 0 if unknown.

    A file that is damaged is as good as none: the learner then takes the port that its configuration says.
    """
    if not run.address.exists():
        return 0
    try:
        return parse_address(str(read_json(run.address)["address"]))[1]
    except (StorageError, ConfigError, LookupError, TypeError) as exc:
        logger.warning("%s names no address (%s); the learner's port may be another than before", run.address, exc)
        return 0


def _stored_epoch(run: RunDirectory) -> int:
    """The epoch in the run's file.

    Raises:
        StorageError: the file is missing or holds none.
    """
    path = run.path / "epoch.json"
    data = read_json(path)
    epoch = data.get("next") if isinstance(data, dict) else None
    if type(epoch) is not int or not 0 <= epoch < MAX_EPOCH:
        raise StorageError(f"{path} holds {str(data)[:80]!r}, expected the number of the next start; it was damaged")
    return epoch


def _known_epochs(run: RunDirectory, journal: Journal) -> Iterator[int]:
    """Every epoch that a sound checkpoint, or an order in the journal, names."""
    for path in checkpoint_paths(run.checkpoints):
        with contextlib.suppress(StorageError, LookupError, TypeError, ValueError):
            state, _ = read_checkpoint(path)
            yield int(state["run"]["epoch"])
    for _, kind, payload in journal.read():
        if kind == Kind.ORDER:
            with contextlib.suppress(DecodeError):
                yield IssuedOrder.FromString(payload).order.order_id >> EPOCH_BIT
