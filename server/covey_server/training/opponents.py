"""Who plays against members in their evaluations: whom the configuration names, or what a zero-sum game needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from covey.config import Config
from covey.envs.zero_sum import is_zero_sum, sides_of
from covey.errors import StorageError
from covey.networks.resolve import network_ids
from covey.run.frozen_opponents import read_opponents
from covey.run.trained import TrainedMember
from covey.spaces import EnvironmentSpaces
from covey.wire.policy_file import HashedFiles, hashed, policy_sha256
from covey_server.durability.checkpointer import Checkpointer
from covey_server.evolution.fitness import chosen_agents
from covey_server.evolution.line_ups import EliteBefore, LineUp, by_sides, with_opponents
from covey_server.learner import Learner
from covey_server.population import Population

FEWEST_EPISODES = 3
"""Episodes with returns other than zero, all of which must cancel, before a game counts as zero-sum."""

MOST_SIDES = 8
"""With more sides than these, evaluating each against opponents would cost more than it tells."""


class Opponents:
    """Chooses who plays in members' evaluation episodes.

    Where `fitness.opponents` names nobody and returns sum to zero, each side is played against random moves and against
    the elite of the generation before. That a game is such a one is learned from the training episodes of a generation,
    when the first of its members is evaluated: all members of a generation are evaluated alike.

    Args:
        learner: The run.
        checkpointer: Knows the elites, and keeps the game's sides.

    Raises:
        StorageError: the run's copy of a policy that `fitness.opponents` names by path cannot be read.
    """

    def __init__(self, learner: Learner, checkpointer: Checkpointer) -> None:
        self._learner = learner
        self._checkpointer = checkpointer
        self._elite: TrainedMember | None = None
        self._elite_files: HashedFiles = {}
        frozen = read_opponents(learner.run, learner.config)
        self._frozen = {agent: (policy_sha256(found.file), found.file) for agent, found in frozen.items()}

    def prepare(self, population: Population, member_id: int) -> None:
        """Read what a member's evaluation needs from the disk, before `line_ups` is called under the lock."""
        named = self._learner.config.fitness.opponents
        with self._learner.lock:
            generation = self._learner.ledger(member_id).generation
            wanted = bool(self._sides(population, generation)) or (named is not None and "elite" in named.values())
        elite = self._elite_before(generation) if wanted else None
        if elite is not self._elite:  # all members of a generation meet the same one
            self._elite, self._elite_files = elite, hashed(elite.files) if elite else {}

    @property
    def elite_plays(self) -> bool:
        """Whether the elite of the generation before plays in the evaluation that was prepared last."""
        return self._elite is not None

    def count(self, population: Population, member_id: int) -> int:
        """The number of line-ups in the evaluation of a member that was prepared last."""
        counted = set(chosen_agents(population.spaces.agent_ids, self._learner.config.fitness))
        with self._learner.lock:
            sides = self._sides(population, self._learner.ledger(member_id).generation)
        return max(1, sum(bool(counted & set(side)) for side in sides) * (1 + self.elite_plays))

    def line_ups(self, population: Population, member_id: int) -> list[LineUp]:
        """Choose who plays in a member's evaluation: episode k is played by line-up k modulo their number.

        Call it under the lock in which the evaluation is requested, so that actors find the policies, and after
        `prepare`. The member's newest policies must be published.

        Raises:
            ConfigError: section `fitness` names an agent that does not exist.
        """
        fitness, agents, refs_of = self._learner.config.fitness, population.spaces.agent_ids, population.policies.refs
        counted = chosen_agents(agents, fitness)
        elite = None
        if self._elite is not None:
            refs = population.policies.hold(self._elite.member_id, self._elite_files)
            elite = EliteBefore(f"the elite of generation {self._elite.generation}", refs)
        if fitness.opponents:
            living = [m.member_id for m in population.members]
            best = self._checkpointer.best_member
            frozen = {agent: population.policies.hold_file(*file) for agent, file in self._frozen.items()}
            players = with_opponents(member_id, agents, fitness.opponents, living, best, refs_of, elite, frozen)
            return [LineUp(players, counted, named_opponents(fitness.opponents, elite))]
        generation = self._learner.ledger(member_id).generation
        sides = self._sides(population, generation)
        return by_sides(refs_of(member_id), sides, counted, elite) or [LineUp(refs_of(member_id), counted)]

    def saw(self, population: Population, played: Iterable[tuple[str, Sequence[float]]]) -> bool:
        """Note evaluation episodes in which a member played all agents and whose returns sum to zero.

        Training episodes may have been too long to end. The next generation is then evaluated by sides.

        Args:
            population: The population.
            played: Each agent's return by episode, with the name of the actor that played it.

        Returns:
            Whether it is.
        """
        with self._learner.lock:
            population.returns.extend((actor, tuple(returns)) for actor, returns in played if any(returns))
            if self._learner.config.fitness.opponents is None:
                self._look(population, self._checkpointer.looked_at + 1)
            return bool(self._checkpointer.sides)

    def _sides(self, population: Population, generation: int) -> list[list[int]]:
        """The sides by which this generation is evaluated, as indices of agents; none in other games."""
        if self._learner.config.fitness.opponents is not None:
            return []
        if generation > self._checkpointer.looked_at:
            self._checkpointer.looked_at = generation
            self._look(population, generation)
            population.returns.clear()
        agents = population.spaces.agent_ids
        # Never more than the environment has: a checkpoint's sides are those of the same agents.
        sides = self._checkpointer.sides if generation >= self._checkpointer.sides_since else []
        return [[agents.index(agent) for agent in side] for side in sides]

    def _look(self, population: Population, since: int) -> None:
        """Look at the returns of the episodes that have ended: do they cancel, and which agents win together?

        An actor may report what is not so. Where several train, one alone neither makes a zero-sum game nor ends one.
        """
        by_actor: dict[str, list[tuple[float, ...]]] = {}
        for actor, returns in population.returns:
            by_actor.setdefault(actor, []).append(returns)
        # Each actor's by themselves: beside one return of 1e30 all others would cancel up to rounding.
        cancelling = sum(is_zero_sum(np.array(returns, np.float64)) for returns in by_actor.values())
        others = len(by_actor) - cancelling
        enough = min(2, max(1, len(self._learner.sessions.active())))
        if self._checkpointer.sides:
            if others >= enough:
                self._checkpointer.sides = []
                self._learner.event("returns do not sum to zero after all: members play all agents in evaluations")
            return
        if others or cancelling < enough or len(population.returns) < FEWEST_EPISODES:
            return
        agents = population.spaces.agent_ids
        table = np.array([returns for _, returns in population.returns], np.float64)
        sides = [[agents[i] for i in side] for side in sides_of(table)]
        if len(sides) > MOST_SIDES:
            return
        self._checkpointer.sides, self._checkpointer.sides_since = sides, since
        self._learner.event(zero_sum_event(sides, population.spaces, self._learner.config))

    def _elite_before(self, generation: int) -> TrainedMember | None:
        """The fittest member of the generation before this one; None without one that can be read."""
        try:
            return self._checkpointer.elites.before(generation)
        except StorageError as exc:
            self._learner.event(f"{exc}; generation {generation} is evaluated without its elite")
            return None


def named_opponents(named: Mapping[str, str | int], elite: EliteBefore | None) -> str:
    """Say for people who plays which agents against a member, such as "random as player_2"."""
    words = {"random": "random", "elite": elite.name if elite else "itself"}
    others = {who: f"member {who}" if isinstance(who, int) else words.get(who, who) for who in named.values()}
    return " and ".join(f"{others[who]} as {agent}" for agent, who in named.items())


def zero_sum_event(sides: Sequence[Collection[str]], spaces: EnvironmentSpaces, config: Config) -> str:
    """Say what a zero-sum game's evaluations are like, and who plays whom in training."""
    names = " and ".join(", ".join(side) for side in sides)
    text = (
        f"zero-sum game: the returns of {names} sum to zero, so each side is evaluated against random and the elite of "
        "the generation before, as fitness.opponents names nobody"
    )
    if config.algorithm.team_reward:
        return (
            f"{text}; {config.algorithm.name} learns the sum of all agents' rewards, which is zero, and so nothing: "
            "choose algorithm.name: IPPO or MAPPO"
        )
    players = network_ids(spaces, config.algorithm.share_parameters).values()
    both = [[spaces.agent_ids[i] for i in agents] for agents in players]
    if any(sum(bool(set(agents) & set(side)) for side in sides) > 1 for agents in both):
        return f"{text}; one policy plays several sides, and in training plays against itself"
    return f"{text}; in training a member's own policies play against each other"
