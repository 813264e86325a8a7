"""One member's tournament: whether it goes on, or a child of somebody fitter takes its place.

Source of the method: population-based training (Jaderberg et al., 2017), its binary tournament made one of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from covey.config import Config
from covey_server.evolution.generation import child_of
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
    """Let a member meet `tournament_size` - 1 others, drawn with replacement; the fittest of them wins.

    A winner goes on as it is; without elitism, or with `mutation.mutate_elite`, a mutated child of it takes its place.
    A loser's place goes to a mutated child of the winner. The child has the winner's weights, moments, hyperparameters
    and count of updates as they are now; env steps and steps not yet paid for are those of the place.

    Args:
        member: Whose turn it is; it has just been evaluated.
        members: The population with it. The newest fitness counts; who has none yet loses.
        config: Of the run.
        selection: Stream of the tournament.
        mutation: Stream of kinds, sizes, and fresh weights of what grows.
        next_member_id: First id that was never given; the child's.
        generation: In which the child is born.

    Returns:
        The child, which shares no memory with its parent; None: the member goes on.

    Raises:
        ConfigError: a hyperparameter range that the algorithm cannot have.
    """
    others = [m for m in members if m is not member]
    drawn = selection.integers(len(others), size=config.selection_strategy.tournament_size - 1) if others else ()
    met = [member, *(others[i] for i in drawn)]
    winner = met[worst_to_best([m.fitness for m in met])[-1]]
    if winner is member and config.selection_strategy.elitism and not config.mutation.mutate_elite:
        return None
    child = child_of(winner, next_member_id, generation)
    child = replace(child, env_steps=member.env_steps, unpaid_steps=member.unpaid_steps)
    Mutations(config.mutation, ranges(config), mutation).mutate(child)
    return child
