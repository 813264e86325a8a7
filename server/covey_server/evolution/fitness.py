"""Computes a member's fitness from the returns of its evaluation episodes, and chooses its opponents in them."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from covey.config import Fitness
from covey.envs.zero_sum import is_zero_sum, who_counts
from covey.errors import ConfigError
from covey.v1.order_pb2 import PolicyRef
from covey.wire.limits import BUILTIN_RANDOM

logger = logging.getLogger("covey.learner")


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a population member's evaluation.

    Attributes:
        fitness: Mean over episodes of the sum (or mean) of the chosen agents' returns; NaN without episodes.
        stderr: Standard error of `fitness`; 0 for a single episode, NaN without any.
        per_agent: Mean return of every agent, those played by opponents included.
        cancels: Whether all agents count and their returns cancel in every episode, so that such a fitness says
            nothing.
    """

    fitness: float
    stderr: float
    per_agent: dict[str, float]
    cancels: bool = False


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
        _warn_once("all evaluated episodes returned zero to every agent: selection cannot tell members apart yet")
    elif is_zero_sum(table):
        cancels = len(columns) == len(agent_ids)
        if not cancels and not config.opponents:
            _warn_once(
                f"zero-sum game: {', '.join(agent_ids[i] for i in columns)} is scored by its returns against its own "
                "member's policies; name other opponents in fitness.opponents"
            )
    scores = table[:, columns].sum(1) if config.reduce == "sum" else table[:, columns].mean(1)
    # Standard error of the mean: sample standard deviation (n - 1 in the denominator) over the root of n.
    stderr = float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else 0.0
    per_agent = dict(zip(agent_ids, table.mean(0).tolist(), strict=True))
    return Score(float(scores.mean()), stderr, per_agent, cancels)


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
    for path, named in (("fitness.agents", config.agents or ()), ("fitness.opponents", config.opponents)):
        for agent in named:
            if agent not in agent_ids:
                raise ConfigError(f"{path}: {agent!r}, expected some of {', '.join(agent_ids)}")
    own = [a for a in agent_ids if a not in config.opponents]
    counted = own if config.agents is None else [a for a in agent_ids if a in config.agents]
    if not set(counted) & set(own):
        raise ConfigError(
            f"fitness.opponents: opponents play {', '.join(counted or agent_ids)}, so that nothing a member does would "
            "count; leave it an agent whose return counts"
        )
    return [agent_ids.index(a) for a in counted]


def with_opponents(
    member_id: int,
    agent_ids: Sequence[str],
    opponents: Mapping[str, str | int],
    living: Collection[int],
    champion: int | None,
    refs_of: Callable[[int], Sequence[PolicyRef]],
) -> list[PolicyRef]:
    """Choose the policies that play the agents in a member's evaluation episodes: its own, or opponents'.

    Args:
        member_id: The evaluated member, which plays every agent that has no opponent.
        agent_ids: All agents of the environment, in its order.
        opponents: `fitness.opponents` of the configuration: by agent "random" or a member's id.
        living: Ids of the population's members.
        champion: Best member of the generation before, which replaces opponents that have died; if it is None or has
            died too, the evaluated member replaces them.
        refs_of: Returns the newest policies of a living member, one per agent.

    Returns:
        A reference to a policy for each agent, in the environment's order.
    """
    refs = list(refs_of(member_id))
    for agent, opponent in opponents.items():
        i = agent_ids.index(agent)
        if isinstance(opponent, str):
            refs[i] = PolicyRef(builtin=BUILTIN_RANDOM)
            continue
        # The named member, else the champion, else the evaluated member itself.
        player = next((m for m in (opponent, champion) if m is not None and m in living), member_id)
        refs[i] = refs_of(player)[i]
    return refs


def rank_key(fitness: float | None) -> float:
    """Return a number to rank a fitness by: itself, or minus infinity if it is NaN or unknown (None)."""
    return -math.inf if fitness is None or math.isnan(fitness) else fitness


def best(fitnesses: Mapping[int, float | None]) -> int:
    """Return the member id with the highest fitness; among equals the lowest id, which is the oldest member."""
    return max(sorted(fitnesses, reverse=True), key=lambda m: (rank_key(fitnesses[m]), -m))
