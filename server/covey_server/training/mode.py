"""The interface of evolution modes: when evaluated members are compared, and which are then replaced."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from covey_server.member import Member
from covey_server.population import Population


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluated members that are compared with each other now; each goes on, is replaced, or the run ends.

    Attributes:
        members: The members that are compared.
        is_last: Whether no generation follows for any member.
    """

    members: tuple[Member, ...]
    is_last: bool


class EvolutionMode(Protocol):
    """Decides when population members are compared, and which go on or are replaced.

    Attributes:
        compares_all: Whether all members are always compared together, so that their evaluations may go by stages.
    """

    compares_all: bool

    def compare(self, population: Population, member: Member, evaluated: Collection[int]) -> Comparison | None:
        """Choose the members to compare now that one more has been evaluated; None if it has to wait for others.

        Args:
            population: The run's population.
            member: The member that was evaluated last.
            evaluated: Ids of all members that were evaluated since they were last compared, this one included.
        """
        ...

    def succeed(self, population: Population, comparison: Comparison) -> None:
        """Let each compared member begin its next generation, or put a new member in its place.

        All members' networks were unpacked before.
        """
        ...
