"""Tournament selection of the next population's parents.

The method is that of AgileRL's `TournamentSelection`, except that a missing or NaN fitness ranks worst, not best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Selection:
    """Result of a selection, as indices into the evaluated population.

    Attributes:
        elite: The fittest member.
        parents: The parent for each place of the next population; under elitism the first one is the elite.
    """

    elite: int
    parents: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TournamentSelection:
    """Selects the parent for each place of the next population: the fittest of some members drawn with replacement.

    Attributes:
        tournament_size: Number of members drawn for each place.
        elitism: Whether the fittest member of all takes the first place, without a tournament.
        population_size: Number of places.
    """

    tournament_size: int
    elitism: bool
    population_size: int

    def select(self, fitness: Sequence[float | None], rng: np.random.Generator) -> Selection:
        """Select the parents of the next population.

        Args:
            fitness: Fitness of each member of the evaluated population (at least one); None or NaN if it has none.
            rng: Random generator for the draws.
        """
        order = worst_to_best(fitness)
        elite = order[-1]
        parents = [elite] if self.elitism else []
        places = self.population_size - len(parents)
        # `order` lists members from worst to best, so drawing ranks uniformly draws members uniformly, and the winner
        # of a tournament is the largest rank drawn.
        winners = rng.integers(len(order), size=(places, self.tournament_size)).max(axis=1)
        return Selection(elite, (*parents, *(order[rank] for rank in winners)))


def worst_to_best(fitness: Sequence[float | None]) -> list[int]:
    """Sort positions by rising fitness; None and NaN rank worst, and of equals the earlier position ranks better."""

    def key(position: int) -> tuple[bool, float, int]:
        value = fitness[position]
        if value is None or math.isnan(value):
            return False, 0.0, -position
        return True, value, -position

    return sorted(range(len(fitness)), key=key)
