"""What members learn from, as the rest of the learner sees it: bytes go in, numbers come out.

Nothing outside of this room and of the algorithms touches a tensor or an array of experience, so that both could live
in another process.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.stream import Stream
from covey_server.storage.journal import Position


@dataclass(frozen=True, slots=True)
class AcceptedRows:
    """The rows of a fragment that passed every check.

    Attributes:
        raw: The decompressed columns, one after another, as `covey.rows.RowSchema.view` reads them.
        rows: Number of rows, lead-in rows included.
        slot_streams: The fragment's own description of its slots.
        streams: The same with members and places in the columns.
        actor: Whose slots these are; fragments of one actor come in their order.
        position: Where the journal has the fragment.
    """

    raw: bytes
    rows: int
    slot_streams: Sequence[SlotStream]
    streams: tuple[Stream, ...]
    actor: Hashable
    position: Position


class Experience(Protocol):
    """A memory that ingest fills and an algorithm reads; `len()` is the env steps held. Safe to use from two threads.

    Attributes:
        only_newest_policy: Whether rows count only if the policies that the member has now have played them. Steps
            that another policy played, because a crash took newer weights, are then played again.
    """

    only_newest_policy: ClassVar[bool]

    def __len__(self) -> int:
        """Env steps held."""
        ...

    def add(self, rows: AcceptedRows, members: Collection[int]) -> None:
        """Take in a fragment's rows.

        Args:
            rows: At least one row.
            members: Whose rows count.

        Raises:
            ConfigError: the fragment alone is larger than the memory.
        """
        ...

    @property
    def needed_from(self) -> Position | None:
        """The oldest journal record that a restart needs to fill this memory again; None: no record."""
        ...

    def to_state(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the journal's records, as JSON."""
        ...

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Prepare an empty memory for the records that `restore` brings.

        Raises:
            KeyError, TypeError, ValueError: no such state.
        """
        ...

    def restore(self, rows: AcceptedRows) -> None:
        """Take in again, in the journal's order, what was in before a restart; what was not held is left out."""
        ...
