"""Creates the populations of the training functions by the caller's selection and mutation, and records results."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covey.config import Config
from covey.errors import EnvironmentLoadError
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.algorithms.statistics import kept_statistics
from covey_server.api.agents import Agent, FitnessValue, scalar
from covey_server.api.evolution import Mutations, TournamentSelection
from covey_server.api.memory import MultiAgentReplayBuffer
from covey_server.build import PopulationFactory
from covey_server.evolution.fitness import rank_key
from covey_server.evolution.generation import sound
from covey_server.evolution.lineage import Lineage
from covey_server.experience.experience import Experience
from covey_server.member import Member
from covey_server.population import Population

logger = logging.getLogger("covey")


class Generations(PopulationFactory):
    """Creates the populations of a training function from the caller's `Agent` objects, and keeps their records.

    Args:
        config: The run's configuration.
        agents: The first population.
        memory: The replay memory; None for on-policy algorithms.
        tournament: Selection between generations; None: all members stay.
        mutation: Mutation of selected members, and of the first population; None: neither mutation nor selection.
        sum_scores: Whether scores and fitnesses sum the returns of the environment's agents.
        elite_path: Folder in which the best member of each generation is saved; None: it is not saved.

    Attributes:
        agents: The current population.
        fitnesses: For each evaluated generation, the fitness of its members, in the population's order.
        lines: Summaries of generations that were not printed yet.
    """

    def __init__(
        self,
        config: Config,
        agents: Sequence[Agent],
        memory: MultiAgentReplayBuffer | None,
        tournament: TournamentSelection | None,
        mutation: Mutations | None,
        sum_scores: bool,
        elite_path: Path | None,
    ) -> None:
        super().__init__(config)
        self.agents = list(agents)
        self.fitnesses: list[list[FitnessValue]] = []
        self.lines: list[str] = []
        self._memory = memory
        self._tournament, self._mutation = tournament, mutation
        self._sum_scores = sum_scores
        self._elite_path = elite_path
        self._evaluated_member: dict[int, int] = {}  # member id by id of the evaluation task
        # Of the present generation, by member id: scores of training episodes, and agents' returns in evaluation ones.
        self._scores: dict[int, list[float | list[float]]] = defaultdict(list)
        self._returns: dict[int, list[list[float]]] = defaultdict(list)
        self._faults = 0  # how often environments raised
        self._last_fault = ""

    def fresh(self, spaces: EnvironmentSpaces) -> Population:
        """Create the run's first population from the caller's agents, once the environment's spaces are known.

        If none of them was ever updated, all are mutated once before training.
        """
        for agent in self.agents:
            agent.adopt_spaces(spaces)
        if self._mutation is not None and len(self.agents) > 1 and not any(a.member.updates for a in self.agents):
            self.agents = self._mutation.mutation(self.agents, pre_training_mut=True)
        members = [agent.unpacked() for agent in self.agents]
        lineage = Lineage()
        for member in members:
            lineage.born(member)
        return self.restored(spaces, members, lineage)

    def record_episodes(self, order: Order, fragment: Fragment) -> None:
        """Record the returns of the training and evaluation episodes that an actor's message reports.

        Args:
            order: The order that the fragment answers; it says which member an evaluation task belongs to.
            fragment: The actor's answer.
        """
        for fault in fragment.faults:
            self._faults += 1
            self._last_fault = fault.message
            if self._faults.bit_count() == 1:  # the first, the second, the fourth ...
                where = "evaluation" if fault.evaluation else "training"
                logger.warning(
                    "in %s the environment raised %s; it was built again (%d such faults)",
                    where,
                    fault.message,
                    self._faults,
                )
        self._evaluated_member |= {task.task_id: task.member_id for task in order.evaluations}
        for episode in fragment.episodes:
            returns = list(episode.returns)
            if episode.evaluation:
                self._returns[self._evaluated_member[episode.task_id]].append(returns)
            else:
                self._scores[episode.member_id].append(sum(returns) if self._sum_scores else returns)

    def record_generation(self) -> None:
        """Add an evaluated generation to the records of its agents, and save its best agent if asked to.

        Raises:
            EnvironmentLoadError: environments raised so often that no member has a fitness.
        """
        unrated = [a.index for a in self.agents if a.member.fitness is None or math.isnan(a.member.fitness)]
        if self._faults and len(unrated) == len(self.agents):
            raise EnvironmentLoadError(
                "env raised in every evaluation episode, expected some to end, as without them no member has a "
                f"fitness; at last {self._last_fault}; correct the environment, and try it with covey check-env"
            )
        fitnesses: list[FitnessValue] = []
        mean_scores = []
        for agent in self.agents:
            member = agent.member
            agent.steps[-1] = member.env_steps
            # `Member.fitness` is one number. Without `sum_scores`, callers get the mean return by agent instead.
            fitness: FitnessValue = float("nan") if member.fitness is None else member.fitness
            if not self._sum_scores and self._returns[agent.index]:
                means = np.mean(self._returns[agent.index], axis=0).tolist()
                fitness = dict(zip(agent.agent_ids, means, strict=True))
            agent.fitness.append(fitness)
            fitnesses.append(fitness)
            scores = self._scores[agent.index]
            agent.scores += scores
            mean_scores.append(np.mean(scores, axis=0).round(2).tolist() if scores else "no completed episodes")
        self.fitnesses.append(fitnesses)
        if self._elite_path is not None:
            max(self.agents, key=lambda agent: rank_key(scalar(agent.fitness[-1]))).save_checkpoint(self._elite_path)
        self._scores.clear()
        self._returns.clear()
        self.lines.append(
            f"--- Generation {len(self.fitnesses)} ---\n"
            f"Members: {[agent.index for agent in self.agents]}\n"
            f"Steps: {[agent.steps[-1] for agent in self.agents]}\n"
            f"Scores: {mean_scores}\n"
            f"Fitnesses: {[_rounded(f) for f in fitnesses]}\n"
            f"Mutations: {[agent.member.change or agent.mut for agent in self.agents]}"
        )

    def _successors(self, population: Population, generation: int) -> list[Member]:
        """Make the members of the next generation, by the caller's selection and mutation."""
        self.record_generation()
        if self._tournament is not None and self._mutation is not None:
            finite = {member.member_id for member in sound([agent.member for agent in self.agents])}
            _, selected = self._tournament.select([agent for agent in self.agents if agent.index in finite])
            self.agents = self._mutation.mutation(selected)
        for agent in self.agents:
            agent.steps.append(agent.steps[-1])
        return [agent.unpacked() for agent in self.agents]

    def _experience(self, spaces: EnvironmentSpaces) -> Experience:
        """Return the caller's replay memory or, without one, a new memory of the kind that the algorithm needs."""
        if self._memory is None:
            return super()._experience(spaces)
        replay = self._memory.bind(spaces)
        if kept_statistics(self._config.algorithm):
            replay.observe()
        return replay


def _rounded(fitness: FitnessValue) -> str:
    """Format a fitness as text with two decimals."""
    if isinstance(fitness, dict):
        return ", ".join(f"{agent} {value:.2f}" for agent, value in fitness.items())
    return f"{fitness:.2f}"
