"""What the trainer asks of an evolution mode: when evaluated members are compared, and what becomes of them then."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from covey_server.member import Member
from covey_server.population import Population


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluated members whose turn it is: each goes on or is replaced, or the run ends with them."""

    members: tuple[Member, ...]
    is_last: bool  # no generation follows for anybody


class Turns(Protocol):
    """An evolution mode. Called by the trainer alone."""

    def compare(self, population: Population, member: Member, judged: Collection[int]) -> Comparison | None:
        """Whose turn it is now that a member has been evaluated; None: the member waits for others.

        Args:
            population: The run's.
            member: Who was evaluated last.
            judged: Ids of all members that were evaluated since their last turn, this one included.
        """
        ...

    def turn(self, population: Population, comparison: Comparison) -> None:
        """Let the members of a comparison go on, or others in their place, each into its next generation.

        Everybody's weights are unpacked.
        """
        ...
