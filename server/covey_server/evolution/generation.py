"""From nothing to the first population, and from an evaluated population to the next.

Both are functions of what they are given, random streams included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from covey.config import Config
from covey_server.evolution.hyperparameters import ranges
from covey_server.evolution.mutation import Mutations
from covey_server.evolution.tournament import TournamentSelection
from covey_server.member import Hyperparameters, Member, Network


def initial_population(
    config: Config,
    build_networks: Callable[[np.random.Generator], dict[str, Network]],
    hyperparameters: Hyperparameters,
    initialisation: np.random.Generator,
    mutation: np.random.Generator,
) -> list[Member]:
    """Members 0 to `pop_size` - 1, each with weights of its own, mutated once where `mutation.pre_training` asks.

    A population of one is not mutated: nothing could select among what comes of it.

    Args:
        config: Of the run.
        build_networks: Fresh networks of one member, keyed "<role>/<network id>", drawn from the stream it is given.
        hyperparameters: Of every member at the start; each gets a dictionary of its own.
        initialisation: Stream of first weights.
        mutation: Stream of the mutations before training.

    Raises:
        ConfigError: a hyperparameter range that the algorithm cannot have.
    """
    mutations = Mutations(config.mutation, ranges(config), mutation)
    size = config.training.pop_size
    members = []
    for member_id in range(size):
        member = Member(
            member_id=member_id,
            networks=build_networks(initialisation),
            hyperparameters=dict(hyperparameters),
        )
        if config.mutation.pre_training and size > 1:
            mutations.pre_train(member)
        members.append(member)
    return members


def next_generation(
    members: Sequence[Member],
    config: Config,
    selection: np.random.Generator,
    mutation: np.random.Generator,
    next_member_id: int,
    generation: int,
) -> list[Member]:
    """Select parents by tournament and mutate their children; the members given stay as they are.

    Under elitism the best member goes on in the first place under its own id, as it was evaluated; with
    `mutation.mutate_elite` the place goes to a mutated child of it instead. A child carries on its parent's env steps,
    updates and unpaid steps, and has no fitness until it is evaluated.

    Args:
        members: The evaluated population, at least one.
        config: Of the run.
        selection: Stream of the tournaments.
        mutation: Stream of kinds, sizes, and fresh weights of what grows.
        next_member_id: First id that was never given; children get it and those after it.
        generation: In which the children are born.

    Returns:
        As many members as were given; none shares memory with them.

    Raises:
        ConfigError: a hyperparameter range that the algorithm cannot have.
    """
    tournament = TournamentSelection(
        tournament_size=config.selection_strategy.tournament_size,
        elitism=config.selection_strategy.elitism,
        population_size=len(members),
    )
    chosen = tournament.select([m.fitness for m in members], selection)
    parents = [members[i] for i in chosen.parents]
    population: list[Member] = []
    if tournament.elitism and not config.mutation.mutate_elite:
        population.append(replace(copied(members[chosen.elite]), mutation="elite", change=""))
        parents = parents[1:]
    mutations = Mutations(config.mutation, ranges(config), mutation)
    for member_id, parent in enumerate(parents, start=next_member_id):
        child = child_of(parent, member_id, generation)
        mutations.mutate(child)
        population.append(child)
    return population


def child_of(parent: Member, member_id: int, generation: int) -> Member:
    """A deep copy under a new id, not yet mutated and not yet evaluated."""
    return replace(
        copied(parent),
        member_id=member_id,
        parent_id=parent.member_id,
        generation=generation,
        fitness=None,
        fitness_stderr=None,
        mutation="none",
        change="",
    )


def copied(member: Member) -> Member:
    """The same member, sharing no memory."""
    return replace(
        member,
        networks={name: network.clone() for name, network in member.networks.items()},
        hyperparameters=dict(member.hyperparameters),
    )
