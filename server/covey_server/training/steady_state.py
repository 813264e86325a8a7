"""Steady-state evolution: a member is compared as soon as it has been evaluated, and no member waits for another.

This is asynchronous population-based training (Jaderberg et al., 2017). Exploit and explore are one step: a member that
loses its tournament is replaced by a mutated child of the winner, with the weights that the winner has at that moment.
"""

from __future__ import annotations

from collections.abc import Collection

from covey_server.build import PopulationFactory
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.population import Population
from covey_server.training.mode import Comparison


class SteadyState:
    """Asynchronous evolution: each member is compared with the others as soon as it was evaluated.

    Args:
        learner: The learner's shared state.
        factory: Makes the children that replace members.
    """

    compares_all = False

    def __init__(self, learner: Learner, factory: PopulationFactory) -> None:
        self._learner = learner
        self._factory = factory

    def compare(self, population: Population, member: Member, evaluated: Collection[int]) -> Comparison | None:
        """Choose whom to compare: the evaluated member at once, without waiting; at the end of the run, all members."""
        learner = self._learner
        members = tuple(population.members)
        with learner.lock:
            if not learner.in_last_generation(member.member_id):
                return Comparison((member,), is_last=False)
            ended = all(m.member_id in evaluated and learner.in_last_generation(m.member_id) for m in members)
        return Comparison(members, is_last=True) if ended else None

    def succeed(self, population: Population, comparison: Comparison) -> None:
        """Hold a tournament for the evaluated member; if it loses, replace it by a mutated child of the winner."""
        learner = self._learner
        (member,) = comparison.members
        with learner.lock:
            generation = learner.ledger(member.member_id).generation + 1
        child = self._factory.successor(population, member, generation)
        if child is None:
            algorithm, outcome = population.algorithm, "goes on"
        else:
            members = [child if m is member else m for m in population.members]
            population.algorithm.close()
            algorithm = self._factory.algorithm(population.spaces, members)
            outcome = f"is replaced by member {child.member_id}, a child of {child.parent_id} ({child.mutation})"
        with learner.changed:
            if child is not None:
                population.lineage.died(member.member_id, generation)
                population.lineage.born(child)
            learner.enter_member(member, child or member, algorithm, generation)
            learner.event(
                f"generation {generation - 1}: member {member.member_id}, fitness {member.fitness:.2f}, {outcome}"
            )
