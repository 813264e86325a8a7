"""An evolution mode: when evaluated members are compared with each other, and what becomes of them then."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from covey_server.member import Member
from covey_server.population import Population


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluated members that are compared now: each goes on or is replaced, or the run ends with them.

    Attributes:
        members: Who is compared.
        is_last: Whether no generation follows for anybody.
    """

    members: tuple[Member, ...]
    is_last: bool


class EvolutionMode(Protocol):
    """Called by the trainer alone."""

    def compare(self, population: Population, member: Member, evaluated: Collection[int]) -> Comparison | None:
        """Whom to compare now that a member has been evaluated; None: the member waits for others.

        Args:
            population: The run's.
            member: Who was evaluated last.
            evaluated: Ids of all members that were evaluated since they were last compared, this one included.
        """
        ...

    def succeed(self, population: Population, comparison: Comparison) -> None:
        """Let the members of a comparison go on, or others in their place, each into its next generation.

        Everybody's weights are unpacked.
        """
        ...
