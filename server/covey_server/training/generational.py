"""Generations: all members are compared when all have been evaluated, and the next population begins together."""

from __future__ import annotations

from collections.abc import Collection

from covey_server.build import PopulationFactory
from covey_server.evolution.mode import Comparison
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.population import Population


class Generational:
    """Waits for all.

    Args:
        learner: The shared state.
        factory: Makes the next generation.
    """

    def __init__(self, learner: Learner, factory: PopulationFactory) -> None:
        self._learner = learner
        self._factory = factory

    def compare(self, population: Population, member: Member, judged: Collection[int]) -> Comparison | None:
        """As `Turns.compare`: everybody's, once everybody has been evaluated."""
        if len(judged) < len(population.members):
            return None
        return Comparison(tuple(population.members), self._learner.in_last_generation(member.member_id))

    def turn(self, population: Population, comparison: Comparison) -> None:
        """As `Turns.turn`: select parents by tournaments, mutate their children."""
        del comparison
        learner = self._learner
        generation = learner.scheduler.generation + 1
        # No training order is out now, so nobody else touches the members while they are cloned and mutated.
        members, algorithm = self._factory.evolve(population, generation)
        with learner.changed:
            learner.enter_generation(members, algorithm, generation)
