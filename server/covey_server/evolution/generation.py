"""Creates the first population and, by selection and mutation, the next generation from an evaluated one.

Results depend on the arguments alone, which include the random generators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from covey.config import Config
from covey.errors import DivergedError
from covey_server.evolution.hyperparameters import draw_hyperparameters, ranges
from covey_server.evolution.mutation import Mutations
from covey_server.evolution.tournament import TournamentSelection
from covey_server.member import Member, Network


def initial_population(
    config: Config,
    build_networks: Callable[[np.random.Generator], dict[str, Network]],
    initialisation: np.random.Generator,
    mutation: np.random.Generator,
) -> list[Member]:
    """Create the first population: members 0 to `pop_size` - 1, each with its own random weights.

    With `mutation.draw_initial_rl_hp` each has hyperparameters of its own. With `mutation.pre_training` each member is
    also mutated once, except in a population of one member, where no selection would follow.

    Args:
        config: The run's configuration.
        build_networks: Creates a member's networks, keyed "<role>/<network id>", with weights from the given random
            generator.
        initialisation: Random generator for initial weights.
        mutation: Random generator for the mutations.

    Raises:
        ConfigError: a hyperparameter's range exceeds what the algorithm allows.
    """
    # Two random generators: initial weights do not depend on whether, or how, members are mutated.
    allowed = ranges(config)
    mutations = Mutations(config.mutation, allowed, mutation)
    size = config.training.pop_size
    members = []
    for member_id in range(size):
        member = Member(
            member_id=member_id,
            networks=build_networks(initialisation),
            hyperparameters=config.algorithm.initial_hyperparameters(),
        )
        if config.mutation.draw_initial_rl_hp:
            draw_hyperparameters(member, allowed, mutation)
        if config.mutation.pre_training and size > 1:
            drawn = member.change
            mutations.pre_train(member)
            member.change = "; ".join(filter(None, (member.change, drawn)))
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
    """Select parents by tournaments, and create a mutated child for each place of the next population.

    Under elitism the best member takes the first place unchanged, with its id; with `mutation.mutate_elite` a mutated
    child of it does. Children continue their parents' counts of env steps, updates and `unpaid_steps`, and have no
    fitness yet.

    Args:
        members: The evaluated population, at least one member; it stays as it is.
        config: The run's configuration.
        selection: Random generator for the tournaments.
        mutation: Random generator for the mutations, new weights included.
        next_member_id: First id that no member ever had; children get it and the ids after it.
        generation: Number of the generation that begins, in which the children are created.

    Returns:
        As many members as were given, sharing no arrays with them.

    Raises:
        ConfigError: a hyperparameter's range exceeds what the algorithm allows.
        DivergedError: all members have diverged. One that has gets no children.
    """
    tournament = TournamentSelection(
        tournament_size=config.selection_strategy.tournament_size,
        elitism=config.selection_strategy.elitism,
        population_size=len(members),
    )
    members = sound(members)
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


def sound(members: Sequence[Member]) -> list[Member]:
    """The members that may have children: those that have not diverged.

    Raises:
        DivergedError: all have diverged.
    """
    found = [m for m in members if not m.diverged]
    if not found:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in members[0].hyperparameters.numbers().items())
        raise DivergedError(
            f"population: all {len(members)} members have diverged, expected one with finite weights at least (member "
            f"{members[0].member_id}: {numbers}); lower the learning rates, or bound gradients and rewards"
        )
    return found


def child_of(parent: Member, member_id: int, generation: int) -> Member:
    """Copy a member, arrays included, under a new id and without fitness: a child that is not mutated yet."""
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
    """Copy a member, arrays included, under the same id."""
    return replace(member, networks={name: network.clone() for name, network in member.networks.items()})
