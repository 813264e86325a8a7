"""Selection and mutation for training loops, over `covey_server.evolution`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydantic

from covey.config import Mutation
from covey.config.section import explain
from covey.errors import ConfigError
from covey_server.api.agents import Agent, scalar
from covey_server.evolution import mutation, tournament
from covey_server.evolution.hyperparameters import ranges
from covey_server.seeds import generator


class TournamentSelection:
    """Draws `tournament_size` agents for each place; the fittest of them becomes the parent.

    Args:
        tournament_size: How many compete for a place.
        elitism: Whether the best agent goes on as it is, in the first place.
        population_size: Of the population selected.
        eval_loop: Fitness is the mean of so many newest evaluations.
    """

    def __init__(self, tournament_size: int, elitism: bool, population_size: int, eval_loop: int = 1) -> None:
        if tournament_size < 1 or population_size < 1 or eval_loop < 1:
            raise ConfigError(
                f"TournamentSelection: tournament_size {tournament_size}, population_size {population_size}, eval_loop "
                f"{eval_loop}, expected at least 1 of each"
            )
        self.population_size = population_size
        self.eval_loop = eval_loop
        self._tournament = tournament.TournamentSelection(
            tournament_size=tournament_size, elitism=elitism, population_size=population_size
        )
        self._selections = itertools.count()

    def select(self, population: Sequence[Agent]) -> tuple[Agent, list[Agent]]:
        """The best agent as it was evaluated, and the next population, which shares no memory with this one.

        An agent without a fitness, or with NaN, ranks worst.
        """
        newest = [[scalar(f) for f in agent.fitness[-self.eval_loop :]] for agent in population]
        fitness = [float(np.mean(values)) if values else None for values in newest]
        seed = population[0].kin.config.training.seed
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
    """Mutates agents, each by one kind drawn from relative weights.

    Args:
        no_mutation: Weight of leaving an agent as it is.
        architecture: Weight of layers and units that come or go.
        new_layer_prob: Share of whole layers within it.
        parameters: Weight of noise on policies' weights.
        activation: Weight of another activation function.
        rl_hp: Weight of another hyperparameter, of those that the population was created with.
        mutation_sd: Size of that noise, relative to each weight.
        activation_selection: Activation functions to draw from.
        mutate_elite: Whether the agent that survived selection as the best is mutated too.
        rand_seed: Of the draws; None: another one every time.
        device: Not needed: agents mutate in host memory.
        accelerator: Not needed.

    Raises:
        ConfigError: a weight that is none.
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
        del device, accelerator
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
            self._settings = Mutation.model_validate(section)
        except pydantic.ValidationError as exc:
            raise ConfigError(f"Mutations: {explain(exc, Mutation)}") from exc
        self._rng = np.random.default_rng(rand_seed)

    def mutation(self, population: Sequence[Agent], pre_training_mut: bool = False) -> list[Agent]:
        """The same agents, mutated.

        Args:
            population: As selection gave it, or as it was created.
            pre_training_mut: Whether to leave nobody as it is, before training begins.
        """
        mutated = []
        for agent in population:
            if agent.member.mutation == "elite":
                if not self._settings.mutate_elite:
                    mutated.append(agent)
                    continue
                agent = agent.clone()  # its record under its id is that of the policies that were evaluated
            operators = mutation.Mutations(self._settings, ranges(agent.kin.config), self._rng)
            (operators.pre_train if pre_training_mut else operators.mutate)(agent.natural())
            mutated.append(agent)
        return mutated
