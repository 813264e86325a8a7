"""Multi-frequency selection: sub-populations that are compared at different rates, and members that move between them.

The method is MF-PBT (Doulazmi et al., 2025, "Multiple-Frequencies Population-Based Training"). Population-based
training is greedy: it prefers what pays at once. Here sub-population i is compared in every ratio_i-th generation, so
slow ones let hyperparameters show what they are worth later, and fast ones find what is good now. When its turn comes,
a sub-population is ranked from best to worst into brackets:

    winners     stay as they are
    survivors   stay too, without children
    open        stay, unless the j-th best member of the other sub-populations is better than the j-th of these: then
                it comes in its place, from a slower sub-population as it is; from a faster one its weights alone, with
                the hyperparameters of the best member here and a fresh optimiser
    losers      give way to mutated children of winners drawn at random
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from covey.config import Config
from covey_server.evolution.generation import child_of, copied, sound
from covey_server.evolution.hyperparameters import ranges
from covey_server.evolution.mutation import Mutations
from covey_server.evolution.tournament import worst_to_best
from covey_server.member import Member


def next_by_frequencies(
    members: Sequence[Member],
    config: Config,
    selection: np.random.Generator,
    mutation: np.random.Generator,
    next_member_id: int,
    generation: int,
) -> list[Member]:
    """Compare the sub-populations whose turn it is, and put children and migrants in the places of their worst.

    A sub-population is a run of neighbouring places of the population.

    Args:
        members: The evaluated population; it stays as it is.
        config: The run's configuration.
        selection: Random generator for the winners that have children.
        mutation: Random generator for the mutations, new weights included.
        next_member_id: First id that no member ever had; children and migrants get it and the ids after it.
        generation: Number of the generation that begins; it says whose turn it is.

    Returns:
        As many members as were given, sharing no arrays with them; those that stay keep their ids.

    Raises:
        ConfigError: a hyperparameter's range exceeds what the algorithm allows.
        DivergedError: all members have diverged.
    """
    sound(members)
    brackets = config.selection_strategy.brackets(len(members))
    mutations = Mutations(config.mutation, ranges(config), mutation)
    ranked = [members[i] for i in reversed(worst_to_best([_worth(m) for m in members]))]
    of = {m.member_id: place // brackets.size for place, m in enumerate(members)}
    population = [replace(copied(m), mutation="stayed", change="") for m in members]
    newcomers: dict[int, Member] = {}  # by place
    for own, ratio in enumerate(brackets.ratios):
        if generation % ratio:
            continue
        best = [m for m in ranked if of[m.member_id] == own]
        # Children of members that have diverged would diverge too.
        winners = [m for m in best[: brackets.winners] if not m.diverged] or sound(ranked)[:1]
        first_open = brackets.winners + brackets.survivors
        first_loser = first_open + brackets.open_for_migration
        others = [m for m in ranked if of[m.member_id] != own]
        places = {m.member_id: members.index(m) for m in best}
        for stays, other in zip(best[first_open:first_loser], others, strict=False):
            if _worth(other) > _worth(stays):
                migrant = replace(child_of(other, next_member_id, generation), mutation="migrant")
                if brackets.ratios[of[other.member_id]] < ratio:
                    migrant = _weights_alone(migrant, winners[0])
                newcomers[places[stays.member_id]] = migrant
        for loser in best[first_loser:]:
            child = child_of(winners[selection.integers(len(winners))], next_member_id, generation)
            mutations.mutate(child)
            newcomers[places[loser.member_id]] = child
    for member_id, place in enumerate(sorted(newcomers), start=next_member_id):
        population[place] = replace(newcomers[place], member_id=member_id)
    return population


def _worth(member: Member) -> float:
    """The member's fitness; below all others where it has none or has diverged."""
    return -np.inf if member.fitness is None or np.isnan(member.fitness) or member.diverged else member.fitness


def _weights_alone(migrant: Member, elite: Member) -> Member:
    """The migrant with another member's hyperparameters, and optimisers that have seen nothing."""
    for network in migrant.networks.values():
        network.first_moment = {name: np.zeros_like(x) for name, x in network.first_moment.items()}
        network.second_moment = {name: np.zeros_like(x) for name, x in network.second_moment.items()}
        network.adam_steps = 0
    return replace(
        migrant, hyperparameters=elite.hyperparameters, change=f"hyperparameters of member {elite.member_id}"
    )
