"""Creates populations: a first one for an environment's spaces, one of stored members, or the next generation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from covey.config import Config
from covey.config.architecture import flattened_images, modules_of, resolve
from covey.networks.trusted_modules import trust
from covey.rows import RowSchema
from covey.run.frozen_opponents import FrozenOpponent, check_spaces
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import ALGORITHMS, Algorithm
from covey_server.evolution.fitness import chosen_agents
from covey_server.evolution.frequencies import next_by_frequencies
from covey_server.evolution.generation import initial_population, next_generation
from covey_server.evolution.lineage import Lineage
from covey_server.evolution.succession import successor
from covey_server.experience.experience import Experience
from covey_server.member import Member, Network
from covey_server.packing.policies import PolicyStore
from covey_server.population import Population
from covey_server.seeds import generator
from covey_server.storage.warm_start import WarmStart

logger = logging.getLogger("covey")


class PopulationFactory:
    """Creates the populations of one run, with the algorithm and the random seed of its configuration.

    Attributes:
        opponents: Policies from elsewhere that play in the run's evaluations, by agent; they must fit its spaces.
    """

    opponents: Mapping[str, FrozenOpponent] = MappingProxyType({})

    def __init__(self, config: Config) -> None:
        self._config = config
        self._device = torch.device(config.learner.device)
        self._implementation = ALGORITHMS[config.algorithm.name]
        trust(*modules_of(config.network))  # members of a checkpoint have them too

    def fresh(self, spaces: EnvironmentSpaces) -> Population:
        """Create a run's first population, with initial weights and an empty replay memory.

        With `training.init_from` all begin with the weights of a member of another run, before they are mutated.

        Raises:
            ConfigError: the sections `network` or `fitness` do not fit the environment's spaces, or no weight of the
                other run fits the networks.
            SpaceError: a space that the algorithm does not support, or other spaces than those of the other run, or of
                an opponent.
            StorageError: the other run cannot be read.
        """
        config = self._config
        # All four are called for their errors, before networks are initialised.
        shared = config.algorithm.share_parameters
        for sentence in flattened_images(resolve(config.network, spaces, shared), spaces, shared):
            logger.warning("%s", sentence)
        if (read := self._implementation.state_sentence(config, spaces)) is not None:
            logger.info("%s", read)
        chosen_agents(spaces.agent_ids, config.fitness)
        check_spaces(self.opponents, spaces)
        self._implementation.checked_specs(config, spaces)
        warm = None if config.training.init_from is None else WarmStart.read(config.training.init_from)
        if warm is not None:
            warm.check(spaces)
        missing: list[str] = []

        def build_networks(rng: np.random.Generator) -> dict[str, Network]:
            networks = self._implementation.networks(config, spaces, rng)
            if warm is not None:
                missing[:] = warm.fill(networks)  # the same for every member: all have the configured architecture
            return networks

        seed = config.training.seed
        members = initial_population(
            config, build_networks, generator(seed, "initialisation"), generator(seed, "mutation", "initial")
        )
        if warm is not None:
            logger.info("%s", "; ".join([f"initial weights: those of {warm.words}", *missing]))
        lineage = Lineage()
        for member in members:
            if warm is not None:
                member.change = "; ".join(filter(None, [f"weights of {warm.words}", member.change]))
            lineage.born(member)
        return self.restored(spaces, members, lineage)

    def restored(self, spaces: EnvironmentSpaces, members: list[Member], lineage: Lineage) -> Population:
        """Create a population of existing members, such as those of a checkpoint, with an empty replay memory."""
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
        """Select and mutate: create the next generation and record births and deaths in the lineage.

        Args:
            population: The evaluated population; its members' weights must have been unpacked. They are gone
                afterwards, and its algorithm is closed.
            generation: Number of the generation that begins.

        Returns:
            The next generation's members, and an algorithm that holds their networks packed.
        """
        lineage = population.lineage
        # One generation's stacked networks at a time, and one of the members' own: of large networks two are too much.
        population.algorithm.close()
        members = self._successors(population, generation)
        for member in population.members:
            if not any(member is own for own in members):  # those that stay may be the very same
                member.release()
        before = {m.member_id for m in population.members}
        after = {m.member_id for m in members}
        for member_id in before - after:
            lineage.died(member_id, generation)
        for child in members:
            if child.member_id not in before:
                lineage.born(child)
        return members, self.algorithm(population.spaces, members)

    def successor(self, population: Population, member: Member, generation: int) -> Member | None:
        """Compare one evaluated member with others in a tournament (steady-state evolution).

        Args:
            population: The population; all members' weights must have been unpacked. The others may be in the middle
                of a generation.
            member: The member that was evaluated.
            generation: Number of the generation that the member, or its replacement, begins.

        Returns:
            The member that replaces it; None if it stays.
        """
        seed = self._config.training.seed
        # Member ids change from generation to generation; a member's place in the population does not, so that it
        # names the place's random streams.
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
        """Create the configured algorithm, with the networks of these members packed for joint updates."""
        return self._implementation(self._config, spaces, members, self._device)

    def _successors(self, population: Population, generation: int) -> list[Member]:
        """Members of the next generation, by the configured selection and mutation."""
        seed = self._config.training.seed
        by_frequencies = self._config.selection_strategy.strategy == "multi_frequency"
        return (next_by_frequencies if by_frequencies else next_generation)(
            population.members,
            self._config,
            generator(seed, "selection", generation),
            generator(seed, "mutation", generation),
            population.lineage.next_member_id,
            generation,
        )

    def _experience(self, spaces: EnvironmentSpaces) -> Experience:
        """An empty memory of the kind that the algorithm learns from."""
        return self._implementation.experience(self._config, spaces, self._device)
