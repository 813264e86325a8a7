"""From the returns of evaluation episodes to the one number that selection uses."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from covey.config import Fitness
from covey.errors import ConfigError

logger = logging.getLogger("covey.learner")


def fitness_of(returns: Sequence[Sequence[float]], agent_ids: Sequence[str], config: Fitness) -> tuple[float, float]:
    """Mean over episodes of the sum (or mean) over agents, and its standard error.

    Args:
        returns: (episodes, agents), in the environment's agent order; may be empty (NaN, which ranks worst).
        agent_ids: The environment's.
        config: Which agents count, and how they are reduced.

    Raises:
        ConfigError: a zero-sum game whose sum would be selected by, or an agent that does not exist.
    """
    if not returns:
        return math.nan, math.nan
    table = np.asarray(returns, np.float64)
    if config.agents is None and config.reduce == "sum" and table.shape[1] > 1 and table.any():
        if not np.abs(table.sum(1)).max() > 1e-9 * np.abs(table).max():
            raise ConfigError(
                "fitness: the agents' returns sum to zero in every evaluated episode, so that selection by their sum "
                f"would be blind; name the agents whose returns count, such as fitness.agents: [{agent_ids[0]}]"
            )
    elif not table.any():
        logger.warning("all evaluated episodes returned zero to every agent: selection cannot tell members apart yet")
    columns = chosen_agents(agent_ids, config)
    scores = table[:, columns].sum(1) if config.reduce == "sum" else table[:, columns].mean(1)
    stderr = float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else 0.0
    return float(scores.mean()), stderr


def chosen_agents(agent_ids: Sequence[str], config: Fitness) -> list[int]:
    """Indices of the agents that count.

    Raises:
        ConfigError: an agent that the environment does not have.
    """
    for agent in config.agents or ():
        if agent not in agent_ids:
            raise ConfigError(f"fitness.agents: {agent!r}, expected some of {', '.join(agent_ids)}")
    return [i for i, a in enumerate(agent_ids) if config.agents is None or a in config.agents]


def rank_key(fitness: float | None) -> float:
    """A number to sort by: NaN and unknown rank worst."""
    return -math.inf if fitness is None or math.isnan(fitness) else fitness


def best(fitnesses: Mapping[int, float | None]) -> int:
    """The member id of highest fitness; the oldest of equals."""
    return max(sorted(fitnesses, reverse=True), key=lambda m: (rank_key(fitnesses[m]), -m))
