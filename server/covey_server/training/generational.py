"""Generational evolution: all members are compared once all are evaluated, and the next generation begins at once."""

from __future__ import annotations

from collections.abc import Collection

from covey_server.build import PopulationFactory
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.population import Population
from covey_server.training.mode import Comparison


class Generational:
    """Evolution in generations: all members are compared together, when the last of them was evaluated.

    Args:
        learner: The learner's shared state.
        factory: Makes the next generation by selection and mutation.
    """

    compares_all = True

    def __init__(self, learner: Learner, factory: PopulationFactory) -> None:
        self._learner = learner
        self._factory = factory

    def compare(self, population: Population, member: Member, evaluated: Collection[int]) -> Comparison | None:
        """Return all members to be compared, once all have been evaluated; None before that."""
        if len(evaluated) < len(population.members):
            return None
        with self._learner.lock:
            return Comparison(tuple(population.members), self._learner.in_last_generation(member.member_id))

    def succeed(self, population: Population, comparison: Comparison) -> None:
        """Make the next generation: select parents by tournaments, mutate their children, and let them begin."""
        del comparison
        learner = self._learner
        generation = learner.scheduler.generation + 1
        # No training order is out now, so nobody else touches the members while they are cloned and mutated.
        members, algorithm = self._factory.evolve(population, generation)
        with learner.changed:
            learner.enter_generation(members, algorithm, generation)
