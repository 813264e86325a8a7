"""Selection in steady-state evolution: an evaluated member stays, or a child of a fitter one takes its place.

The method is that of population-based training (Jaderberg et al., 2017), with tournaments of any size instead of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from covey.config import Config
from covey_server.evolution.generation import child_of, sound
from covey_server.evolution.hyperparameters import ranges
from covey_server.evolution.mutation import Mutations
from covey_server.evolution.tournament import worst_to_best
from covey_server.member import Member


def successor(
    member: Member,
    members: Sequence[Member],
    config: Config,
    selection: np.random.Generator,
    mutation: np.random.Generator,
    next_member_id: int,
    generation: int,
) -> Member | None:
    """Hold a tournament of an evaluated member against `tournament_size` - 1 others, drawn with replacement.

    If the member has the highest fitness, it stays; without elitism, or with `mutation.mutate_elite`, a mutated child
    of it takes its place instead. Otherwise a mutated child of the winner takes its place. The child starts from its
    parent's current weights, Adam moments, hyperparameters and count of updates, but continues the replaced member's
    counts of env steps and `unpaid_steps`, so that all places of the population train for the same number of env steps.

    Args:
        member: The member that has just been evaluated.
        members: The population, the member included. Newest fitnesses are compared; members without one lose.
        config: The run's configuration.
        selection: Random generator for the tournament.
        mutation: Random generator for the mutation, new weights included.
        next_member_id: Id of the child, which no member ever had.
        generation: Number of the generation in which the child is created.

    Returns:
        The child, which shares no arrays with its parent; None if the member stays.

    Raises:
        ConfigError: a hyperparameter's range exceeds what the algorithm allows.
    """
    others = [m for m in members if m is not member]
    drawn = selection.integers(len(others), size=config.selection_strategy.tournament_size - 1) if others else ()
    # The member is first, because among equals the earlier position is the better: it wins ties.
    contestants = [member, *(others[i] for i in drawn)]
    # One that has diverged loses against anybody that has not, whoever was drawn.
    contestants = [m for m in contestants if not m.diverged] or sound(members)
    winner = contestants[worst_to_best([m.fitness for m in contestants])[-1]]
    if winner is member and config.selection_strategy.elitism and not config.mutation.mutate_elite:
        return None
    child = child_of(winner, next_member_id, generation)
    child = replace(child, env_steps=member.env_steps, unpaid_steps=member.unpaid_steps)
    Mutations(config.mutation, ranges(config), mutation).mutate(child)
    return child
