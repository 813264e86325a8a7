import math

import numpy as np
import pytest

from covey_server.evolution.tournament import TournamentSelection, worst_to_best


def parents(fitness: list[float | None], *, size: int, places: int, seed: int = 0) -> tuple[int, ...]:
    selection = TournamentSelection(tournament_size=size, elitism=False, population_size=places)
    return selection.select(fitness, np.random.default_rng(seed)).parents


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_rank_wins_as_often_as_the_largest_of_k_draws(size: int) -> None:
    fitness = [3.0, 1.0, 4.0, 2.0]
    draws = 200_000
    counts = np.bincount(parents([*fitness], size=size, places=draws), minlength=4)
    by_rank = counts[np.argsort(fitness)]
    expected = draws * np.diff((np.arange(5) / 4) ** size)
    if size == 2:
        assert np.round(expected / draws, 4).tolist() == [0.0625, 0.1875, 0.3125, 0.4375]
    # 0.9999 quantile of chi-squared with 3 degrees of freedom
    assert ((by_rank - expected) ** 2 / expected).sum() < 21.1


def test_the_elite_is_the_best_and_takes_the_first_place() -> None:
    for seed in range(20):
        selection = TournamentSelection(tournament_size=2, elitism=True, population_size=5)
        chosen = selection.select([0.0, 7.0, 3.0], np.random.default_rng(seed))
        assert chosen.elite == 1 and chosen.parents[0] == 1 and len(chosen.parents) == 5


def test_without_elitism_the_best_is_named_but_every_place_is_drawn() -> None:
    first = set()
    for seed in range(50):
        selection = TournamentSelection(tournament_size=1, elitism=False, population_size=3)
        chosen = selection.select([0.0, 7.0, 3.0], np.random.default_rng(seed))
        assert chosen.elite == 1 and len(chosen.parents) == 3
        first.add(chosen.parents[0])
    assert first == {0, 1, 2}


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_fitness_ranks_below_every_number(missing: float | None) -> None:
    assert worst_to_best([1.0, missing, -math.inf, 3.0]) == [1, 2, 0, 3]
    assert parents([-500.0, missing], size=64, places=20) == (0,) * 20


def test_of_equals_the_earlier_position_is_the_better() -> None:
    assert worst_to_best([1.0, 2.0, 2.0, 1.0]) == [3, 0, 2, 1]
    assert worst_to_best([None, None, math.nan]) == [2, 1, 0]


def test_draws_follow_from_the_stream() -> None:
    fitness: list[float | None] = [1.0, 2.0, 3.0, 4.0]
    assert parents(fitness, size=2, places=50, seed=1) == parents(fitness, size=2, places=50, seed=1)
    assert parents(fitness, size=2, places=50, seed=1) != parents(fitness, size=2, places=50, seed=2)
