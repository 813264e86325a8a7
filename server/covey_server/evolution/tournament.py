"""Tournament selection: who the parents of the next population are.

Source of the method: AgileRL's `TournamentSelection`, except that a missing or NaN fitness ranks worst, not best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Selection:
    """Indices into the evaluated population."""

    elite: int  # the best
    parents: tuple[int, ...]  # for each place of the next population; the elite itself in the first under elitism


@dataclass(frozen=True, slots=True, kw_only=True)
class TournamentSelection:
    """Draws `tournament_size` members with replacement for each place; the fittest of them becomes the parent."""

    tournament_size: int
    elitism: bool
    population_size: int

    def select(self, fitness: Sequence[float | None], rng: np.random.Generator) -> Selection:
        """Parents of the next population.

        Args:
            fitness: Of each member of the evaluated population, at least one; None or NaN where there is none.
            rng: Stream of the draws.
        """
        order = worst_to_best(fitness)
        elite = order[-1]
        parents = [elite] if self.elitism else []
        places = self.population_size - len(parents)
        # The order lists members by rank, so that a drawn number is a rank and the largest one wins.
        winners = rng.integers(len(order), size=(places, self.tournament_size)).max(axis=1)
        return Selection(elite, (*parents, *(order[rank] for rank in winners)))


def worst_to_best(fitness: Sequence[float | None]) -> list[int]:
    """Positions by rising fitness: None and NaN first; of equals the earlier position is the better."""

    def key(position: int) -> tuple[bool, float, int]:
        value = fitness[position]
        if value is None or math.isnan(value):
            return False, 0.0, -position
        return True, value, -position

    return sorted(range(len(fitness)), key=key)
