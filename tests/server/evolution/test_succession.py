"""One member's tournament: who goes on, whose child takes the place, and what of whom the child carries on."""

from typing import Any

import numpy as np
import pytest
from tests.support.members import assert_same_networks, make_member

from covey.config import Config, parse_config
from covey_server.evolution.succession import successor
from covey_server.member import Member

ONLY_NONE = {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}


def configured(size: int = 2, *, elitism: bool = True, mutate_elite: bool = False, **mutation: Any) -> Config:
    return parse_config(
        {
            "algorithm": {"name": "MATD3"},
            "environment": {"name": "mpe2.simple_v3"},
            "training": {},
            "selection_strategy": {"tournament_size": size, "elitism": elitism},
            "mutation": {"probabilities": ONLY_NONE, "mutate_elite": mutate_elite, **mutation},
        }
    )


def evaluated(*fitness: float | None) -> list[Member]:
    members = [make_member(i, seed=i) for i in range(len(fitness))]
    for member, value in zip(members, fitness, strict=True):
        member.fitness = value
    return members


def after(members: list[Member], place: int, config: Config, seed: int = 0) -> Member | None:
    streams = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    return successor(members[place], members, config, *streams, next_member_id=100, generation=3)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_best_goes_on_whoever_it_meets(size: int) -> None:
    members = evaluated(1.0, 4.0, None, float("nan"))
    assert all(after(members, 1, configured(size), seed) is None for seed in range(30))


def test_in_a_tournament_of_one_everybody_wins() -> None:
    members = evaluated(1.0, 4.0, None)
    assert all(after(members, place, configured(1), seed) is None for place in (0, 1) for seed in range(10))


def test_a_member_is_only_ever_replaced_by_the_child_of_a_better_one_and_more_often_the_worse_it_is() -> None:
    members = evaluated(1.0, 2.0, 3.0, 4.0)
    replaced = []
    for place in range(4):
        children = [after(members, place, configured(2), seed) for seed in range(200)]
        born = [c for c in children if c is not None]
        assert all(c.parent_id is not None and c.parent_id > place for c in born)
        replaced.append(len(born))
    # It meets one of the other three: all of them, two, one, none are better.
    assert replaced[0] == 200 and 90 < replaced[1] < 175 and 35 < replaced[2] < 105 and replaced[3] == 0


def test_who_has_no_fitness_is_nobodys_parent() -> None:
    members = evaluated(-5.0, None, float("nan"))
    assert all(after(members, 0, configured(4), seed) is None for seed in range(20))


def test_a_child_has_the_winners_weights_and_the_places_ledger() -> None:
    members = evaluated(1.0, 2.0)
    loser, winner = members
    loser.env_steps, loser.unpaid_steps, loser.updates = 500, 3, 70
    winner.env_steps, winner.unpaid_steps, winner.updates = 740, 4, 95
    child = after(members, 0, configured(2))
    assert child is not None
    assert (child.member_id, child.parent_id, child.generation) == (100, 1, 3)
    assert (child.env_steps, child.unpaid_steps) == (500, 3), "the place goes on where it stood"
    assert child.updates == 95 and child.fitness is None and child.mutation == "none"
    assert_same_networks(child, winner)
    for key, network in child.networks.items():
        parent = winner.networks[key]
        assert not any(np.shares_memory(a, parent.params[name]) for name, a in network.params.items())
    assert (winner.env_steps, winner.unpaid_steps, winner.updates) == (740, 4, 95)


@pytest.mark.parametrize(("elitism", "mutate_elite"), [(False, False), (True, True)])
def test_where_nobody_is_kept_as_it_is_a_winner_is_followed_by_its_own_child(elitism: bool, mutate_elite: bool) -> None:
    members = evaluated(1.0, 2.0)
    child = after(members, 1, configured(2, elitism=elitism, mutate_elite=mutate_elite))
    assert child is not None and child.parent_id == 1


def test_a_population_of_one_goes_on() -> None:
    assert after(evaluated(1.0), 0, configured(3)) is None
