"""From the returns of evaluation episodes to the one number that selection uses, and against whom they are played."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from covey.config import Fitness
from covey.errors import ConfigError
from covey.v1.order_pb2 import PolicyRef
from covey.wire.limits import BUILTIN_RANDOM

logger = logging.getLogger("covey.learner")


@dataclass(frozen=True, slots=True)
class Score:
    """What an evaluation says about a member.

    Attributes:
        fitness: Mean over episodes of the chosen agents' returns, summed or averaged; NaN without episodes.
        stderr: Its standard error; 0 for a single episode, NaN without any.
        per_agent: Mean return of every agent, whoever played it.
    """

    fitness: float
    stderr: float
    per_agent: dict[str, float]


def fitness_of(returns: Sequence[Sequence[float]], agent_ids: Sequence[str], config: Fitness) -> Score:
    """The score of a member from its evaluation.

    Args:
        returns: (episodes, agents), in the environment's agent order; may be empty (NaN, which ranks worst).
        agent_ids: The environment's.
        config: Which agents count, and how they are reduced.

    Raises:
        ConfigError: a zero-sum game whose sum would be selected by, or an agent that does not exist.
    """
    if not returns:
        return Score(math.nan, math.nan, dict.fromkeys(agent_ids, math.nan))
    table = np.asarray(returns, np.float64)
    columns = chosen_agents(agent_ids, config)
    if not table.any():
        _warn_once("all evaluated episodes returned zero to every agent: selection cannot tell members apart yet")
    elif not np.abs(table.sum(1)).max() > 1e-9 * np.abs(table).max():
        if len(columns) == len(agent_ids):
            raise ConfigError(
                "fitness: the agents' returns sum to zero in every evaluated episode, so that selection by all of them "
                f"would be blind; name the agents whose returns count, such as fitness.agents: [{agent_ids[0]}], or "
                f"who plays against them, such as fitness.opponents: {{{agent_ids[-1]}: random}}"
            )
        if not config.opponents:
            _warn_once(
                f"zero-sum game: {', '.join(agent_ids[i] for i in columns)} is judged by how it does against its own "
                "member's policies; fitness.opponents names others to play against"
            )
    scores = table[:, columns].sum(1) if config.reduce == "sum" else table[:, columns].mean(1)
    stderr = float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else 0.0
    return Score(float(scores.mean()), stderr, dict(zip(agent_ids, table.mean(0).tolist(), strict=True)))


@functools.cache
def _warn_once(text: str) -> None:
    """Every evaluation of a run would say the same."""
    logger.warning(text)


def chosen_agents(agent_ids: Sequence[str], config: Fitness) -> list[int]:
    """Indices of the agents that count: those named, or all that no opponent plays.

    Raises:
        ConfigError: an agent that the environment does not have, or none that the judged member plays itself.
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
    """Who plays each agent while a member is judged, in environment order.

    Args:
        member_id: The judged one; it plays every agent that has no opponent.
        agent_ids: The environment's.
        opponents: `fitness.opponents`: agent to "random" or a member's id.
        living: Ids of the population.
        champion: The best member of the generation before, which stands in for opponents that have died; where there
            is none, the judged member does.
        refs_of: The newest policies of a living member, one per agent.
    """
    refs = list(refs_of(member_id))
    for agent, opponent in opponents.items():
        i = agent_ids.index(agent)
        if isinstance(opponent, str):
            refs[i] = PolicyRef(builtin=BUILTIN_RANDOM)
            continue
        player = next((m for m in (opponent, champion) if m is not None and m in living), member_id)
        refs[i] = refs_of(player)[i]
    return refs


def rank_key(fitness: float | None) -> float:
    """A number to sort by: NaN and unknown rank worst."""
    return -math.inf if fitness is None or math.isnan(fitness) else fitness


def best(fitnesses: Mapping[int, float | None]) -> int:
    """The member id of highest fitness; the oldest of equals."""
    return max(sorted(fitnesses, reverse=True), key=lambda m: (rank_key(fitnesses[m]), -m))
