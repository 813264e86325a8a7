"""Curves of a population: what evaluations found, and what mutations gained."""

import math

import pytest

from covey_server.curves import population
from covey_server.evolution.fitness import Score
from covey_server.member import LineageEntry


def test_the_best_is_shown_beside_the_spread_of_all() -> None:
    told = population.comparison([-3.0, -1.0, math.nan], best=-1.0)
    assert told == {"fitness/best": -1.0, "fitness/mean": -2.0, "fitness/min": -3.0, "fitness/std": 1.0}
    assert population.comparison([math.nan], best=math.nan) == {}, "members that have diverged have no fitness"


def test_a_score_is_shown_with_what_lies_behind_it() -> None:
    score = Score(2.0, 0.5, {"player_0": 3.0, "player_1": -1.0}, against={"random": 4.0})
    assert population.score_of("fitness/confirmed", score) == {
        "fitness/confirmed": 2.0,
        "fitness/confirmed/stderr": 0.5,
        "fitness/confirmed/player_0": 3.0,
        "fitness/confirmed/player_1": -1.0,
        "fitness/confirmed/against/random": 4.0,
    }


def test_gains_are_means_by_kind_of_children_whose_parents_lived_on() -> None:
    def child(kind: str, own: float | None, parents: float | None) -> LineageEntry:
        return LineageEntry(
            member_id=1,
            parent_id=0,
            generation=1,
            mutation=kind,
            change="",
            fitness=None,
            fitness_stderr=None,
            env_steps=0,
            updates=0,
            first_fitness=own,
            parent_fitness=parents,
        )

    born = [
        child("rl_hp", 3.0, 1.0),
        child("rl_hp", 1.0, 1.0),
        child("architecture", 0.0, 2.0),
        child("none", 1.0, None),
    ]
    assert population.gains(born) == pytest.approx({"evolution/gain/rl_hp": 1.0, "evolution/gain/architecture": -2.0})
