"""Successive halving: what it plays, whom it drops, and what those who were dropped are worth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from covey.config import Fitness
from covey_server.evolution.fitness import Score, fitness_of
from covey_server.evolution.halving import FEWEST_EPISODES, SHARE, Halving, Stage, stages

AGENTS = ("a", "b")


def score(member: int, returns: Sequence[Sequence[float]]) -> Score:
    """The sum over both agents, averaged over episodes."""
    del member
    return fitness_of(returns, AGENTS, Fitness())


def cost(plan: Sequence[Stage]) -> int:
    before = [0, *(s.episodes for s in plan)]
    return sum(s.members * (s.episodes - b) for s, b in zip(plan, before, strict=False))


def play(
    table: NDArray[np.float64], trained: int, length: int = 25, rng: np.random.Generator | None = None
) -> Halving[Sequence[float]]:
    """Play an evaluation to its end; `table` has a sum of returns, NaN for a fault, by member and seed."""
    halving = Halving(range(len(table)), table.shape[1], trained, score)
    part: range | None = range(halving.played)
    while part is not None:
        order = list(halving.playing) if rng is None else list(rng.permutation(halving.playing))
        for i, member in enumerate(order):
            seeds = list(part) if rng is None else list(rng.permutation(part))
            results = {k: [table[member, k], 0.0] for k in map(int, seeds) if not math.isnan(table[member, k])}
            assert halving.enter(member, results, length * len(results)) == (i == len(order) - 1)
        part = halving.advance()
    return halving


@pytest.mark.parametrize(
    ("members", "episodes", "affordable", "plan"),
    [
        (32, 32, 1024, [(32, 32)]),
        (32, 32, 768, [(32, 16), (16, 32)]),
        (32, 32, 512, [(32, 8), (16, 16), (8, 32)]),
        (32, 32, 0, [(32, 4), (16, 8), (8, 16), (4, 32)]),
        (32, 100, 400, [(32, 4), (16, 7), (8, 13), (4, 25), (2, 50), (1, 100)]),
        (4, 32, 0, [(4, 8), (2, 16), (1, 32)]),
        (3, 8, 0, [(3, 4), (2, 8)]),
        (2, 7, 0, [(2, 4), (1, 7)]),
        (5, 4, 0, [(5, 4)]),
        (5, 1, 0, [(5, 1)]),
        (1, 32, 0, [(1, 32)]),
    ],
)
def test_an_evaluation_is_halved_as_often_as_it_must(
    members: int, episodes: int, affordable: float, plan: list[tuple[int, int]]
) -> None:
    assert [(s.members, s.episodes) for s in stages(members, episodes, affordable)] == plan


@given(st.integers(1, 200), st.integers(1, 500), st.floats(0, 1e5), st.integers(1, 16))
def test_every_plan_ends_with_all_episodes_and_costs_what_is_affordable_or_the_least(
    members: int, rounds: int, affordable: float, line_ups: int
) -> None:
    episodes = rounds * line_ups
    plan = stages(members, episodes, affordable, line_ups)
    assert plan[0].members == members and plan[-1].episodes == episodes
    assert plan[0].episodes >= min(episodes, FEWEST_EPISODES)
    assert all(stage.episodes % line_ups == 0 for stage in plan), "as often against each opponent, on each side"
    for before, after in itertools.pairwise(plan):
        assert after.members == math.ceil(before.members / 2) and after.episodes > before.episodes
    assert cost(plan) <= max(affordable, cost(stages(members, episodes, 0, line_ups)))
    assert cost(plan) <= members * episodes


@pytest.mark.parametrize(
    ("members", "episodes", "line_ups", "plan"),
    [
        (8, 32, 4, [(8, 4), (4, 8), (2, 16), (1, 32)]),
        (8, 36, 4, [(8, 8), (4, 12), (2, 20), (1, 36)]),  # 5 episodes would be one against the strongest more
        (8, 33, 3, [(8, 6), (4, 9), (2, 18), (1, 33)]),
        (4, 16, 16, [(4, 16)]),
        (4, 48, 16, [(4, 16), (2, 32), (1, 48)]),
    ],
)
def test_a_stage_ends_when_each_opponent_was_met_as_often(
    members: int, episodes: int, line_ups: int, plan: list[tuple[int, int]]
) -> None:
    assert [(s.members, s.episodes) for s in stages(members, episodes, 0, line_ups)] == plan


def test_all_members_are_compared_after_each_line_up_was_played_as_often() -> None:
    halving = Halving(range(8), 36, 0, score, line_ups=6)
    parts = [range(halving.played)]
    while parts[-1]:
        for member in list(halving.playing):
            halving.enter(member, {k: [float(member), 0.0] for k in parts[-1]}, 25 * len(parts[-1]))
        parts.append(halving.advance() or range(0))
    assert parts[:-1] == [range(6), range(6, 12), range(12, 18), range(18, 36)]


def test_what_is_cheap_is_played_in_full_and_every_fitness_is_a_plain_mean() -> None:
    table = np.random.default_rng(1).normal(size=(6, 32))
    halving = play(table, trained=round(6 * 32 * 25 / SHARE))
    assert halving.playing == list(range(6))
    for member, found in halving.scores().items():
        assert found == score(member, [[x, 0.0] for x in table[member]])


def test_one_env_step_less_to_compare_with_and_it_is_halved() -> None:
    table = np.random.default_rng(1).normal(size=(6, 32))
    assert len(play(table, trained=round(6 * 32 * 25 / SHARE) - 1).playing) == 3


def test_who_is_dropped_has_the_best_ones_fitness_less_what_it_was_behind() -> None:
    # Four episodes each, then the better two play all eight: the later seeds are harder by 10 for everybody.
    table = np.array([[5.0] * 4 + [-5.0] * 4, [3.0] * 4 + [-7.0] * 4, [4.5, 4.5, 0, 1] + [0.0] * 4, [-1.0] * 8])
    halving = play(table, trained=0)
    assert halving.playing == [0, 1]
    found = {m: s.fitness for m, s in halving.scores().items()}
    assert found == {0: 0.0, 1: -2.0, 2: pytest.approx(0.0 - (5.0 - 2.5)), 3: pytest.approx(0.0 - 6.0)}
    assert halving.scores()[3].stderr == 0.0 and halving.scores()[2].stderr > 0.0


def test_nobody_who_was_dropped_comes_before_the_best() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        table = rng.normal(size=(16, 32)) * 5 + rng.normal(size=32) * 5
        halving = play(table, trained=0)
        found = {m: s.fitness for m, s in halving.scores().items()}
        assert max(found, key=lambda m: found[m]) in halving.playing
        assert len(found) == 16 and not any(map(math.isnan, found.values()))


def test_results_do_not_depend_on_the_order_in_which_they_arrive() -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(size=(8, 32))
    table[rng.random(table.shape) < 0.1] = math.nan
    first = play(table, trained=0)
    for _ in range(5):
        other = play(table, trained=0, rng=rng)
        assert other.playing == first.playing and other.scores() == first.scores()


def test_who_played_nothing_is_dropped_and_has_no_fitness() -> None:
    table = np.random.default_rng(4).normal(size=(4, 16))
    table[1] = math.nan
    halving = play(table, trained=0)
    assert 1 not in halving.playing
    assert [m for m, s in halving.scores().items() if math.isnan(s.fitness)] == [1]


def test_where_nobody_played_anything_nobody_has_a_fitness() -> None:
    halving = play(np.full((4, 16), math.nan), trained=10**6)
    assert all(math.isnan(s.fitness) for s in halving.scores().values())


def test_of_equals_the_oldest_go_on() -> None:
    assert play(np.zeros((16, 32)), trained=0).playing == [0, 1]
