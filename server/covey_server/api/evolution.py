"""AgileRL's classes for selection and mutation in training loops, implemented by `covey_server.evolution`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydantic

from covey.config import Mutation
from covey.config.accelerators import check_accelerator
from covey.config.section import explain
from covey.errors import ConfigError
from covey_server.api.agents import Agent, scalar
from covey_server.evolution import mutation, tournament
from covey_server.evolution.hyperparameters import ranges
from covey_server.seeds import generator


class TournamentSelection:
    """Selects the next population by tournaments: for each place, the fittest of some members drawn with replacement.

    Args:
        tournament_size: Number of members drawn for each place.
        elitism: Whether the best member takes the first place unchanged.
        population_size: Number of members in the next population.
        eval_loop: Number of newest evaluations over which a member's fitness is averaged.

    Raises:
        ConfigError: an argument is less than 1.

    Attributes:
        tournament_size: Number of members drawn for each place.
        elitism: Whether the best member takes the first place unchanged.
    """

    def __init__(self, tournament_size: int, elitism: bool, population_size: int, eval_loop: int = 1) -> None:
        if tournament_size < 1 or population_size < 1 or eval_loop < 1:
            raise ConfigError(
                f"TournamentSelection: tournament_size {tournament_size}, population_size {population_size}, eval_loop "
                f"{eval_loop}, expected at least 1 of each"
            )
        self.tournament_size, self.elitism = tournament_size, elitism
        self.population_size = population_size
        self.eval_loop = eval_loop
        self._tournament = tournament.TournamentSelection(
            tournament_size=tournament_size, elitism=elitism, population_size=population_size
        )
        self._selections = itertools.count()

    def select(self, population: Sequence[Agent]) -> tuple[Agent, list[Agent]]:
        """Select the next population by the members' fitness; a member without fitness, or with NaN, ranks worst.

        Returns:
            The best member, and the next population, which shares no arrays with the given one.
        """
        newest = [[scalar(f) for f in agent.fitness[-self.eval_loop :]] for agent in population]
        fitness = [float(np.mean(values)) if values else None for values in newest]
        seed = population[0].context.config.training.seed
        chosen = self._tournament.select(fitness, generator(seed, "selection", next(self._selections)))
        elite = population[chosen.elite]
        parents = [population[i] for i in chosen.parents]
        selected = []
        if self._tournament.elitism:
            survivor = elite.clone(same=True)
            survivor.member.mutation, survivor.member.change = "elite", ""
            selected.append(survivor)
            parents = parents[1:]
        return elite, selected + [parent.clone() for parent in parents]


class Mutations:
    """Mutates the members of a population, each by one kind of mutation, drawn by relative probabilities.

    Args:
        no_mutation: Relative probability that a member stays as it is.
        architecture: Relative probability that layers or units are added or removed.
        new_layer_prob: Probability that an architecture mutation changes layers, not units.
        parameters: Relative probability of noise on the policies' weights.
        activation: Relative probability of another activation function.
        rl_hp: Relative probability that a hyperparameter grows or shrinks; `hp_config` of `create_population` says
            which, and how far.
        mutation_sd: Standard deviation of the noise, relative to each weight.
        activation_selection: Names of the activation functions to draw from.
        mutate_elite: Whether to mutate also the best member that selection kept.
        rand_seed: Seed of all draws; None: different draws in every process.
        device: Ignored, because mutation works in the CPU's memory.
        accelerator: An `accelerate.Accelerator` of one process, or None; mutation is the same.

    Raises:
        ConfigError: a probability is negative, or another argument is not allowed.

    Attributes:
        settings: Probabilities and strength of mutation, as the `mutation` section of a configuration has them.
        rand_seed: Seed of all draws; None: different draws in every process.
    """

    def __init__(
        self,
        no_mutation: float,
        architecture: float,
        new_layer_prob: float,
        parameters: float,
        activation: float,
        rl_hp: float,
        mutation_sd: float = 0.1,
        activation_selection: Sequence[str] = ("ReLU", "ELU", "GELU"),
        mutate_elite: bool = False,
        rand_seed: int | None = None,
        device: Any = "cpu",
        accelerator: Any = None,
    ) -> None:
        del device
        check_accelerator(accelerator)
        section = {
            "probabilities": {
                "no_mut": no_mutation,
                "arch_mut": architecture,
                "new_layer": new_layer_prob,
                "params_mut": parameters,
                "act_mut": activation,
                "rl_hp_mut": rl_hp,
            },
            "mutation_sd": mutation_sd,
            "activation_selection": list(activation_selection),
            "mutate_elite": mutate_elite,
        }
        try:
            self.settings = Mutation.model_validate(section)
        except pydantic.ValidationError as exc:
            raise ConfigError(f"Mutations: {explain(exc, Mutation)}") from exc
        self.rand_seed = rand_seed
        self._rng = np.random.default_rng(rand_seed)

    def mutation(self, population: Sequence[Agent], pre_training_mut: bool = False) -> list[Agent]:
        """Mutate the members of a population in place.

        Args:
            population: Members from selection, or of a new population.
            pre_training_mut: Whether every member is to be mutated, as before training: `no_mutation` is ignored.

        Returns:
            The members. With `mutate_elite`, a new child replaces the best member.
        """
        mutated = []
        for agent in population:
            if agent.member.mutation == "elite":
                if not self.settings.mutate_elite:
                    mutated.append(agent)
                    continue
                # A child with a new id is mutated, because the evaluations recorded under the old id are those of the
                # policies as they were.
                agent = agent.clone()
            operators = mutation.Mutations(self.settings, ranges(agent.context.config), self._rng)
            (operators.pre_train if pre_training_mut else operators.mutate)(agent.unpacked())
            mutated.append(agent)
        return mutated
