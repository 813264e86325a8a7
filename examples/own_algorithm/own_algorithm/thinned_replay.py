"""A replay memory that keeps every second fragment: half the samples of a moment, from twice as long a time."""

import zlib
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from covey.spaces import EnvironmentSpaces
from covey_server.experience.batch import Batch
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.replay import Replay
from covey_server.storage.journal import Position


class ThinnedReplay:
    """Implements `covey_server.experience.experience.Experience` around a `Replay`.

    Args:
        spaces: The environment's.
        max_size: Most env steps held.
        max_bytes: Most memory taken.
        device: Where it lies.
    """

    only_newest_policy: ClassVar[bool] = False

    def __init__(self, spaces: EnvironmentSpaces, max_size: int, max_bytes: int, device: torch.device) -> None:
        self._replay = Replay(spaces, max_size, max_bytes, device)

    def __len__(self) -> int:
        return len(self._replay)

    def add(self, rows: AcceptedRows, members: Collection[int]) -> None:
        """Take in a fragment's rows, or leave them out."""
        if kept(rows.position):
            self._replay.add(rows, members)

    def sample(self, keys: Tensor, sizes: Tensor, largest: int) -> Batch:
        """Draw rows uniformly; see `Replay.sample`."""
        return self._replay.sample(keys, sizes, largest)

    @property
    def needed_from(self) -> Position | None:
        """The oldest journal record that a restart needs."""
        return self._replay.needed_from

    def to_state(self) -> dict[str, Any]:
        """What a checkpoint keeps: that of the memory inside."""
        return self._replay.to_state()

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Prepare for the records that `restore` brings."""
        self._replay.from_state(state)

    def restore(self, rows: AcceptedRows) -> None:
        """Take in again what was in before a restart."""
        self.add(rows, ())


def kept(position: Position) -> bool:
    """Whether a fragment is kept: by its place in the journal, so that a restart keeps the same ones."""
    return zlib.crc32(f"{position.segment}/{position.offset}".encode()) % 2 == 0
