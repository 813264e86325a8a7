"""The interface of what stores experience, a replay memory or on-policy rollouts: bytes go in, numbers come out.

No code outside of this folder and of the algorithms touches a tensor or an array of experience, so that both could move
to another process.
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
    """The timesteps ("rows") of one message of an actor that passed every check.

    Attributes:
        raw: The decompressed columns one after another, as `covey.rows.RowSchema.view` reads them, and the states of
            policies with memory behind them.
        rows: Number of rows, also of earlier ones that are repeated (lead-in rows).
        slot_streams: The message's own description of which rows are of which environment.
        streams: The same with the member that each environment plays for, and the place of its rows in the columns.
        actor: Identifies the actor process; its messages come in the order of their numbers.
        position: Where the journal has the message.
    """

    raw: bytes
    rows: int
    slot_streams: Sequence[SlotStream]
    streams: tuple[Stream, ...]
    actor: Hashable
    position: Position


class Experience(Protocol):
    """A memory of timesteps that arriving messages fill and an algorithm reads, from two threads.

    `len()` is the number of env steps held.

    Attributes:
        only_newest_policy: Whether rows count only if the member's present policies played them. Env steps that another
            policy played, because a crash took newer weights, are then played again.
    """

    only_newest_policy: ClassVar[bool]

    def __len__(self) -> int:
        """Return the number of env steps held."""
        ...

    def add(self, rows: AcceptedRows, members: Collection[int]) -> None:
        """Store the timesteps of one accepted message of an actor.

        Args:
            rows: At least one row.
            members: Ids of the members whose rows count.

        Raises:
            ConfigError: the fragment alone is larger than the memory.
        """
        ...

    @property
    def needed_from(self) -> Position | None:
        """The oldest record of the journal on disk from which a restarted learner refills this memory, if any."""
        ...

    def to_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the memory, as JSON.

        The timesteps themselves are in the journal on disk.
        """
        ...

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Prepare an empty memory, from a checkpoint's state, for the journal's records that `restore` will bring.

        Raises:
            StorageError: the state is of a newer version.
            KeyError, TypeError, ValueError: the state is not of this form.
        """
        ...

    def restore(self, rows: AcceptedRows) -> None:
        """Store again, in the journal's order, timesteps that were held before a restart; others are ignored."""
        ...
