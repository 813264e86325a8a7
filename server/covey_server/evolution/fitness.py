"""Computes a member's fitness from the returns of its evaluation episodes."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covey.config import Fitness
from covey.envs.zero_sum import is_zero_sum, who_counts
from covey.errors import ConfigError
from covey.wire.limits import BUILTIN_RANDOM
from covey_server.evolution.line_ups import LineUp

logger = logging.getLogger("covey.learner")

ALL_ZERO = "all evaluated episodes returned zero to every agent: selection cannot tell members apart yet"


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a population member's evaluation.

    Attributes:
        fitness: Mean over episodes of the sum (or mean) of the chosen agents' returns; NaN without episodes.
        stderr: Standard error of `fitness`; 0 for a single episode, NaN without any.
        per_agent: Mean return of every agent, those played by opponents included.
        cancels: Whether all agents count and their returns cancel in every episode, so that such a fitness says
            nothing.
        against: The mean over the episodes against each opponent by its name for people, such as "random"; empty where
            nobody played against the member.
        as_elite: Where each side of a game was played: what the fitness would be in the next generation, with this
            policy as the elite that plays against it. Fitnesses of different generations have different opponents; a
            later one is better than this if it is above that. None elsewhere, and where it is not known what a policy
            gets against itself: fitnesses are then compared as they are.
    """

    fitness: float
    stderr: float
    per_agent: dict[str, float]
    cancels: bool = False
    against: dict[str, float] = field(default_factory=dict)
    as_elite: float | None = None

    @property
    def versus(self) -> str:
        """How the member did against each opponent, as the end of a sentence; empty where nobody played against it."""
        return "".join(f", {mean:.2f} against {who}" for who, mean in self.against.items())


class Played(NamedTuple):
    """An evaluation episode that was played: each agent's return, and who played its agents."""

    returns: Sequence[float]
    line_up: LineUp


def score_of(episodes: Sequence[Played], agent_ids: Sequence[str], config: Fitness) -> Score:
    """Compute a member's score from evaluation episodes in which opponents may have played.

    The fitness is the mean over episodes of the returns of the agents that count in each: with both sides of a game
    played against an opponent, an episode in which the member was player_1 and won 1 and one in which it was player_2
    and lost 1 make a fitness of 0.

    Args:
        episodes: The episodes; without any the fitness is NaN, which ranks worst.
        agent_ids: All agents of the environment, in its order.
        config: Section `fitness` of the configuration.

    Raises:
        ConfigError: the section names an agent that does not exist.
    """
    if not any(e.line_up.against for e in episodes):
        return fitness_of([e.returns for e in episodes], agent_ids, config)
    table = np.asarray([e.returns for e in episodes], np.float64)
    counts = np.array([[i in e.line_up.counted for i in range(len(agent_ids))] for e in episodes])
    scores = np.where(counts, table, 0.0).sum(1)
    if config.reduce == "mean":
        scores /= counts.sum(1)
    if not table.any():
        _warn_once(ALL_ZERO)
    # Of an agent that the member played in some episodes, these; of one that opponents always played, all.
    shown = counts | ~counts.any(0)
    per_agent = {agent: float(table[shown[:, i], i].mean()) for i, agent in enumerate(agent_ids)}
    against = {who: _mean(scores, [e.line_up.against == who for e in episodes]) for who in _opponents(episodes)}
    as_elite = None
    if BUILTIN_RANDOM in against and _even_against_itself(episodes, len(agent_ids), config):
        # Half of the episodes are against random moves, in the other half it would play against itself.
        as_elite = against[BUILTIN_RANDOM] / 2
    return Score(float(scores.mean()), _stderr(scores), per_agent, against=against, as_elite=as_elite)


def _even_against_itself(episodes: Sequence[Played], agents: int, config: Fitness) -> bool:
    """Whether a member that plays each side of a game against itself gets 0 over all sides.

    What it wins as one side it loses as the others, so that is so where all agents count, and each as much: as a sum,
    or as means over sides of one size. Where player_1 alone counts, it may win as that against itself. And where one
    attacker gets 3 and each of three defenders -1, the means of both sides are 3 and -1, which is 1 over both.
    """
    if not all(e.line_up.by_sides for e in episodes):
        return False
    sides = {frozenset(e.line_up.counted) for e in episodes}
    all_count = len(frozenset().union(*sides)) == agents
    return all_count and (config.reduce == "sum" or len({len(side) for side in sides}) == 1)


def _opponents(episodes: Sequence[Played]) -> list[str]:
    """The names of those who played against a member, each once, random first."""
    return sorted({e.line_up.against for e in episodes}, key=lambda name: (name != BUILTIN_RANDOM, name))


def _mean(scores: NDArray[np.float64], chosen: Sequence[bool]) -> float:
    return float(scores[np.array(chosen)].mean())


def _stderr(scores: NDArray[np.float64]) -> float:
    """Standard error of the mean: sample standard deviation (n - 1 in the denominator) over the root of n."""
    return float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else 0.0


def fitness_of(returns: Sequence[Sequence[float]], agent_ids: Sequence[str], config: Fitness) -> Score:
    """Compute a member's score from the returns of its evaluation episodes.

    Args:
        returns: (episodes, agents) undiscounted returns, agents in the environment's order; without episodes the
            fitness is NaN, which ranks worst.
        agent_ids: All agents of the environment, in its order.
        config: Section `fitness` of the configuration: which agents count, and whether they are summed or averaged.

    Raises:
        ConfigError: the section names an agent that does not exist.
    """
    if not returns:
        return Score(math.nan, math.nan, dict.fromkeys(agent_ids, math.nan))
    table = np.asarray(returns, np.float64)
    columns = chosen_agents(agent_ids, config)
    cancels = False
    if not table.any():
        _warn_once(ALL_ZERO)
    elif is_zero_sum(table):
        cancels = len(columns) == len(agent_ids)
        if not cancels and not config.opponents:
            _warn_once(
                f"zero-sum game: {', '.join(agent_ids[i] for i in columns)} is scored by its returns against its own "
                "member's policies; name other opponents in fitness.opponents"
            )
    scores = table[:, columns].sum(1) if config.reduce == "sum" else table[:, columns].mean(1)
    per_agent = dict(zip(agent_ids, table.mean(0).tolist(), strict=True))
    return Score(float(scores.mean()), _stderr(scores), per_agent, cancels)


def cancelling(agent_ids: Sequence[str]) -> str:
    """The sentence for evaluations in which the returns of all agents cancel."""
    return (
        "fitness: the agents' returns sum to zero in every evaluated episode, so that all members have the same "
        f"fitness; {who_counts(agent_ids)}"
    )


@functools.cache
def _warn_once(text: str) -> None:
    """Log a warning at its first call with this text only, because every evaluation of a run would repeat it."""
    logger.warning(text)


def chosen_agents(agent_ids: Sequence[str], config: Fitness) -> list[int]:
    """Return the indices of the agents whose returns count for a member's fitness.

    These are `fitness.agents` or, if that is not set, all agents that the evaluated member plays itself.

    Args:
        agent_ids: All agents of the environment, in its order.
        config: Section `fitness` of the configuration.

    Raises:
        ConfigError: the section names an agent that does not exist, or opponents play all agents that count.
    """
    for path, named in (("fitness.agents", config.agents or ()), ("fitness.opponents", config.opponents or ())):
        for agent in named:
            if agent not in agent_ids:
                raise ConfigError(f"{path}: {agent!r}, expected some of {', '.join(agent_ids)}")
    own = [a for a in agent_ids if a not in (config.opponents or ())]
    counted = own if config.agents is None else [a for a in agent_ids if a in config.agents]
    if not set(counted) & set(own):
        raise ConfigError(
            f"fitness.opponents: opponents play {', '.join(counted or agent_ids)}, so that nothing a member does would "
            "count; leave it an agent whose return counts"
        )
    return [agent_ids.index(a) for a in counted]


def rank_key(fitness: float | None) -> float:
    """Return a number to rank a fitness by: itself, or minus infinity if it is NaN or unknown (None)."""
    return -math.inf if fitness is None or math.isnan(fitness) else fitness


def best(fitnesses: Mapping[int, float | None]) -> int:
    """Return the member id with the highest fitness; among equals the lowest id, which is the oldest member."""
    return max(sorted(fitnesses, reverse=True), key=lambda m: (rank_key(fitnesses[m]), -m))
