"""From returns to fitness, and who plays against whom while a member is judged."""

import logging
import math
from collections.abc import Iterator

import numpy as np
import pytest

from covey.config import Fitness
from covey.errors import ConfigError
from covey_server.evolution.fitness import _warn_once, cancelling, chosen_agents, fitness_of

AGENTS = ("player_1", "player_2")
GAME = [[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]
TEAM = [[1.0, 3.0], [2.0, 6.0]]


@pytest.fixture(autouse=True)
def _said_nothing_yet() -> Iterator[None]:
    _warn_once.cache_clear()
    yield


def test_sum_and_mean_over_agents_and_the_mean_of_each() -> None:
    summed = fitness_of(TEAM, AGENTS, Fitness())
    assert (summed.fitness, summed.per_agent) == (6.0, {"player_1": 1.5, "player_2": 4.5})
    assert summed.stderr == pytest.approx(np.std([4, 8], ddof=1) / math.sqrt(2))
    mean = fitness_of(TEAM, AGENTS, Fitness(reduce="mean"))
    assert (mean.fitness, mean.per_agent) == (3.0, summed.per_agent)
    assert fitness_of(TEAM, AGENTS, Fitness(agents=["player_2"])).fitness == 4.5
    assert fitness_of(TEAM[:1], AGENTS, Fitness()).stderr == 0


def test_no_episodes_rank_worst() -> None:
    score = fitness_of([], AGENTS, Fitness())
    assert math.isnan(score.fitness) and set(score.per_agent) == set(AGENTS)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_where_all_returns_cancel_the_score_says_so(reduce: str) -> None:
    assert fitness_of(GAME, AGENTS, Fitness.model_validate({"reduce": reduce})).cancels
    assert not fitness_of(GAME, AGENTS, Fitness(opponents={"player_2": "random"})).cancels
    assert not fitness_of(TEAM, AGENTS, Fitness()).cancels
    sentence = cancelling(AGENTS)
    assert "fitness.agents: [player_1]" in sentence and "fitness.opponents: {player_2: random}" in sentence


def test_against_an_opponent_the_others_count() -> None:
    assert fitness_of(GAME, AGENTS, Fitness(opponents={"player_2": "random"})).fitness == 0.25
    assert fitness_of(GAME, AGENTS, Fitness(opponents={"player_1": 0})).fitness == -0.25


def test_a_zero_sum_game_against_itself_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        fitness_of(GAME, AGENTS, Fitness(agents=["player_1"]))
    fitness_of(GAME, AGENTS, Fitness(opponents={"player_2": "random"}))
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "fitness.opponents" in said


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (Fitness(agents=["nobody"]), "^fitness.agents: 'nobody', expected some of player_1, player_2"),
        (Fitness(opponents={"nobody": "random"}), "^fitness.opponents: 'nobody', expected some of player_1, player_2"),
        (Fitness(opponents=dict.fromkeys(AGENTS, 0)), "^fitness.opponents: .*leave it an agent"),
        (Fitness(agents=["player_1"], opponents={"player_1": "random"}), "^fitness.opponents: .*play player_1"),
    ],
)
def test_names_and_seats_are_checked(config: Fitness, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        chosen_agents(AGENTS, config)
