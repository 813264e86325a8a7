"""How a population comes into being: from spaces, from a checkpoint, or from the generation before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from covey.config import Config
from covey.config.architecture import resolve
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import ALGORITHMS, Algorithm
from covey_server.evolution.fitness import chosen_agents
from covey_server.evolution.generation import initial_population, next_generation
from covey_server.evolution.lineage import Lineage
from covey_server.evolution.succession import successor
from covey_server.experience.experience import Experience
from covey_server.member import Member
from covey_server.packing.policies import PolicyStore
from covey_server.population import Population
from covey_server.seeds import generator


class PopulationFactory:
    """Makes populations for one run."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._device = torch.device(config.learner.device)
        self._implementation = ALGORITHMS[config.algorithm.name]

    def fresh(self, spaces: EnvironmentSpaces) -> Population:
        """The first population.

        Raises:
            ConfigError: network configuration or fitness do not fit these spaces.
            SpaceError: a space that the algorithm does not support.
        """
        config = self._config
        resolve(config.network, spaces, config.algorithm.share_parameters)
        chosen_agents(spaces.agent_ids, config.fitness)
        seed = config.training.seed
        members = initial_population(
            config,
            lambda rng: self._implementation.networks(config, spaces, rng),
            config.algorithm.initial_hyperparameters(),
            generator(seed, "initialisation"),
            generator(seed, "mutation", "initial"),
        )
        lineage = Lineage()
        for member in members:
            lineage.born(member)
        return self.restored(spaces, members, lineage)

    def restored(self, spaces: EnvironmentSpaces, members: list[Member], lineage: Lineage) -> Population:
        """A population of these members with an empty replay."""
        config = self._config
        schema = RowSchema.of(spaces)
        return Population(
            spaces=spaces,
            schema=schema,
            experience=self._experience(spaces),
            pace=self._implementation.pace(config),
            policies=PolicyStore(spaces, config.algorithm),
            members=members,
            algorithm=self.algorithm(spaces, members),
            lineage=lineage,
        )

    def evolve(self, population: Population, generation: int) -> tuple[list[Member], Algorithm]:
        """The next generation's members, entered into the lineage, and an algorithm that holds them packed.

        The members must have been unpacked and evaluated.
        """
        lineage = population.lineage
        members = self._successors(population, generation)
        before = {m.member_id for m in population.members}
        after = {m.member_id for m in members}
        for member_id in before - after:
            lineage.died(member_id, generation)
        for child in members:
            if child.member_id not in before:
                lineage.born(child)
        return members, self.algorithm(population.spaces, members)

    def successor(self, population: Population, member: Member, generation: int) -> Member | None:
        """Who takes an evaluated member's place when the others are not asked to wait; None: it goes on itself.

        Its parent may be in the middle of a generation; everybody must have been unpacked.
        """
        seed = self._config.training.seed
        place = [m.member_id for m in population.members].index(member.member_id)
        return successor(
            member,
            population.members,
            self._config,
            generator(seed, "selection", generation, place),
            generator(seed, "mutation", generation, place),
            population.lineage.next_member_id,
            generation,
        )

    def algorithm(self, spaces: EnvironmentSpaces, members: Sequence[Member]) -> Algorithm:
        """The configured algorithm, with these members packed."""
        return self._implementation(self._config, spaces, members, self._device)

    def _successors(self, population: Population, generation: int) -> list[Member]:
        seed = self._config.training.seed
        return next_generation(
            population.members,
            self._config,
            generator(seed, "selection", generation),
            generator(seed, "mutation", generation),
            population.lineage.next_member_id,
            generation,
        )

    def _experience(self, spaces: EnvironmentSpaces) -> Experience:
        return self._implementation.experience(self._config, spaces, self._device)
