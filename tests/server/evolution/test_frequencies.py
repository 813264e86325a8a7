"""Sub-populations that are compared at different rates: who stays, who moves and who is born, and when."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.members import assert_same_networks, make_member

from covey.config import Config, OffPolicyHyperparameters, parse_config
from covey.errors import DivergedError
from covey_server.evolution.frequencies import next_by_frequencies
from covey_server.member import Member

BRACKETS = {"n_winners": 1, "n_survivors": 1, "n_open_for_migration": 1, "n_losers": 1}


def configured() -> Config:
    return parse_config(
        {
            "algorithm": {"name": "MATD3"},
            "environment": {"name": "mpe2.simple_v3"},
            "training": {"max_steps": 100, "pop_size": 8},
            "selection_strategy": {"strategy": "multi_frequency", "evolution_frequency_ratios": [1, 3], **BRACKETS},
        }
    )


def evaluated(*fitness: float | None) -> list[Member]:
    """Members 0 to 3 are compared in every generation, 4 to 7 in every third; each has a rate of its own."""
    members = [make_member(i) for i in range(len(fitness))]
    for i, (member, value) in enumerate(zip(members, fitness, strict=True)):
        member.fitness = value
        member.hyperparameters = member.hyperparameters.changed(lr_actor=1e-4 * (i + 1))
    return members


def after(members: list[Member], generation: int) -> list[Member]:
    return next_by_frequencies(
        members, configured(), np.random.default_rng(1), np.random.default_rng(2), 100, generation
    )


def rate(member: Member) -> float:
    return member.own(OffPolicyHyperparameters).lr_actor


def diverge(member: Member) -> None:
    for network in member.networks.values():
        network.params = {name: np.full_like(x, np.nan) for name, x in network.params.items()}


def test_the_fast_one_is_compared_and_takes_a_member_of_the_slow_one_as_it_is() -> None:
    members = evaluated(9, 7, 5, 3, 1, 8, 6, 2)  # places 0 to 3: winner 0, survivor 1, open 2, loser 3
    population = after(members, generation=1)
    assert [m.member_id for m in population] == [0, 1, 100, 101, 4, 5, 6, 7]
    assert [m.mutation for m in population if m.member_id < 100] == ["stayed"] * 6
    migrant, child = population[2:4]
    assert (migrant.parent_id, migrant.mutation, migrant.generation, migrant.fitness) == (5, "migrant", 1, None)
    assert_same_networks(migrant, members[5])
    assert rate(migrant) == rate(members[5])
    assert child.parent_id == 0 and child.mutation != "migrant"
    assert population[0] is not members[0] and population[0].fitness == 9


def test_the_slow_one_waits_for_its_turn_and_takes_weights_alone_from_the_fast_one() -> None:
    members = evaluated(9, 7, 5, 3, 1, 8, 6, 2)  # places 4 to 7, best first: 5, 6, 7, 4
    for m in members:
        for network in m.networks.values():
            network.adam_steps = 7
            network.first_moment = {name: np.ones_like(x) for name, x in network.first_moment.items()}
    for generation in (1, 2, 4):
        assert [m.member_id for m in after(members, generation)][4:] == [4, 5, 6, 7]
    population = after(members, generation=3)
    assert [m.member_id for m in population][4:] == [102, 5, 6, 103]
    migrant, child = population[7], population[4]
    assert (migrant.parent_id, migrant.mutation) == (0, "migrant")
    assert migrant.change == "hyperparameters of member 5" and rate(migrant) == rate(members[5])
    for name, network in migrant.networks.items():
        for key, x in network.params.items():
            np.testing.assert_array_equal(x, members[0].networks[name].params[key])
        assert network.adam_steps == 0 and not any(x.any() for x in network.first_moment.values())
    assert child.parent_id == 5


def test_open_places_are_kept_against_those_that_are_not_better() -> None:
    population = after(evaluated(9, 8, 7, 6, 1, 7, 2, 3), generation=1)
    assert [m.member_id for m in population[:3]] == [0, 1, 2]


def test_members_without_fitness_or_that_diverged_neither_win_nor_move() -> None:
    members = evaluated(None, 7, 5, float("nan"), 8, 4, 3, 2)
    diverge(members[4])
    population = after(members, generation=1)  # best first: 1, 2, and 0 and 3 without fitness
    assert [m.member_id for m in population[1:3]] == [1, 2]
    assert [population[i].parent_id for i in (0, 3)] == [5, 1]  # the open place and the loser's
    for m in members:
        diverge(m)
    with pytest.raises(DivergedError):
        after(members, generation=1)
