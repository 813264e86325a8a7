"""The interface of an evolution mode: when evaluated members are compared with each other, and what becomes of them."""

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
        members: The members that are compared.
        is_last: Whether no generation follows for any member.
    """

    members: tuple[Member, ...]
    is_last: bool


class EvolutionMode(Protocol):
    """Decides when members are compared, and which go on or are replaced. Called by the trainer alone."""

    def compare(self, population: Population, member: Member, evaluated: Collection[int]) -> Comparison | None:
        """Choose the members to compare now that one more has been evaluated; None if it has to wait for others.

        Args:
            population: The run's population.
            member: The member that was evaluated last.
            evaluated: Ids of all members that were evaluated since they were last compared, this one included.
        """
        ...

    def succeed(self, population: Population, comparison: Comparison) -> None:
        """Let each member of a comparison begin its next generation, or a new member in its place.

        All members' networks were unpacked before.
        """
        ...
