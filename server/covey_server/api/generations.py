"""The populations of a training function: how one follows another, and what each agent's record keeps of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from covey.config import Config
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.api.agents import Agent, Fit, scalar
from covey_server.api.evolution import Mutations, TournamentSelection
from covey_server.api.memory import MultiAgentReplayBuffer
from covey_server.build import PopulationFactory
from covey_server.evolution.fitness import rank_key
from covey_server.evolution.lineage import Lineage
from covey_server.experience.experience import Experience
from covey_server.member import Member
from covey_server.population import Population


class Generations(PopulationFactory):
    """Makes populations of agents that exist, by the caller's own selection and mutation.

    Args:
        config: Of the run.
        agents: The first population.
        memory: Its replay; None on-policy.
        tournament: Selects; None: everybody goes on.
        mutation: Mutates what was selected, and the first population; None: nobody mutates, nor is selected.
        sum_scores: Whether scores and fitnesses sum the agents' returns.
        elite_path: Where the best agent of every generation is kept; None: nowhere.

    Attributes:
        agents: The population.
        fitnesses: Of every generation that was evaluated, by place in its population.
        lines: Sentences about generations that nobody printed yet.
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
        self.fitnesses: list[list[Fit]] = []
        self.lines: list[str] = []
        self._memory = memory
        self._tournament, self._mutation = tournament, mutation
        self._sum_scores = sum_scores
        self._elite_path = elite_path
        self._judged: dict[int, int] = {}  # member by evaluation task
        self._scores: dict[int, list[float | list[float]]] = defaultdict(list)
        self._returns: dict[int, list[list[float]]] = defaultdict(list)

    def fresh(self, spaces: EnvironmentSpaces) -> Population:
        """As `PopulationFactory.fresh`, of the agents."""
        for agent in self.agents:
            agent.meet(spaces)
        if self._mutation is not None and len(self.agents) > 1 and not any(a.member.updates for a in self.agents):
            self.agents = self._mutation.mutation(self.agents, pre_training_mut=True)
        members = [agent.natural() for agent in self.agents]
        lineage = Lineage()
        for member in members:
            lineage.born(member)
        return self.restored(spaces, members, lineage)

    def collected(self, order: Order, fragment: Fragment) -> None:
        """Take down how the episodes of a fragment went."""
        self._judged |= {task.task_id: task.member_id for task in order.evaluations}
        for episode in fragment.episodes:
            returns = list(episode.returns)
            if episode.evaluation:
                self._returns[self._judged[episode.task_id]].append(returns)
            else:
                self._scores[episode.member_id].append(sum(returns) if self._sum_scores else returns)

    def close(self) -> None:
        """Enter an evaluated generation into the records of its agents."""
        fitnesses: list[Fit] = []
        mean_scores = []
        for agent in self.agents:
            member = agent.member
            agent.steps[-1] = member.env_steps
            fitness: Fit = float("nan") if member.fitness is None else member.fitness
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
        self.close()
        if self._tournament is not None and self._mutation is not None:
            _, selected = self._tournament.select(self.agents)
            self.agents = self._mutation.mutation(selected)
        for agent in self.agents:
            agent.steps.append(agent.steps[-1])
        return [agent.natural() for agent in self.agents]

    def _experience(self, spaces: EnvironmentSpaces) -> Experience:
        return super()._experience(spaces) if self._memory is None else self._memory.bind(spaces)


def _rounded(fitness: Fit) -> str:
    if isinstance(fitness, dict):
        return ", ".join(f"{agent} {value:.2f}" for agent, value in fitness.items())
    return f"{fitness:.2f}"
