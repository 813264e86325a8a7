"""The record of who descends from whom."""

import json
import math
from dataclasses import replace

import pytest
from tests.support.members import make_member

from covey.errors import StorageError
from covey.run.reports import member_json
from covey_server.evolution.lineage import Lineage, architecture, entry_from_json, entry_info


def three_generations() -> Lineage:
    lineage = Lineage()
    for member in (
        make_member(0),
        make_member(1),
        replace(make_member(2), parent_id=1, generation=1, mutation="rl_hp", change="lr_actor 0.001 -> 0.0012"),
        replace(make_member(3), parent_id=2, generation=2, mutation="architecture", change="head.add_layer"),
    ):
        lineage.born(member)
    lineage.died(0, 1)
    return lineage


def test_an_entry_tells_how_a_member_was_made_and_how_it_did() -> None:
    lineage = three_generations()
    member = replace(make_member(2), fitness=-7.5, fitness_stderr=0.25, env_steps=5000, updates=999, mutation="elite")
    lineage.evaluated(member)
    entry = lineage[2]
    assert (entry.mutation, entry.change, entry.parent_id) == ("rl_hp", "lr_actor 0.001 -> 0.0012", 1)
    assert (entry.fitness, entry.fitness_stderr, entry.env_steps, entry.updates) == (-7.5, 0.25, 5000, 999)
    assert entry.died_generation is None and lineage[0].died_generation == 1
    assert entry.hyperparameters == member.hyperparameters.numbers()
    assert entry.architecture == architecture(member)


def test_entries_do_not_follow_later_changes_of_a_member() -> None:
    lineage, member = Lineage(), make_member(0)
    lineage.born(member)
    member.hyperparameters = member.hyperparameters.changed(batch_size=1)
    assert lineage[0].hyperparameters["batch_size"] == 64


def test_ids_are_never_given_twice() -> None:
    lineage = three_generations()
    assert lineage.next_member_id == 4 and Lineage().next_member_id == 0
    lineage.died(3, 3)
    assert lineage.next_member_id == 4
    with pytest.raises(ValueError, match="never reused"):
        lineage.born(make_member(3))


def test_what_a_child_has_of_its_parent_is_kept_once() -> None:
    lineage = three_generations()
    assert lineage[3].architecture is lineage[2].architecture is lineage[1].architecture
    assert lineage[3].hyperparameters is lineage[1].hyperparameters


def test_the_living_are_told_from_the_dead_who_stay_in_order_of_death() -> None:
    lineage = three_generations()
    lineage.died(2, 3)
    lineage.died(1, 4)
    assert [e.member_id for e in lineage.living] == [3]
    assert [(e.member_id, e.died_generation) for e in lineage.dead] == [(0, 1), (2, 3), (1, 4)]
    again = Lineage([*lineage.dead, *lineage.living])
    assert again.entries == lineage.entries and again.dead == lineage.dead and again.next_member_id == 4


def test_json_gives_an_entry_back() -> None:
    for entry in three_generations().entries:
        assert entry_from_json(json.loads(json.dumps(member_json(entry_info(entry)), allow_nan=False))) == entry


def test_a_child_is_noted_beside_its_parent_in_the_same_evaluation_and_never_again() -> None:
    lineage = three_generations()
    for member_id, fitness in ((1, -9.0), (2, -7.0)):
        lineage.evaluated(replace(make_member(member_id), fitness=fitness))
    lineage.compared(1)
    first = lineage[2]
    assert (first.first_fitness, first.parent_fitness) == (-7.0, -9.0)
    assert lineage[3].first_fitness is None, "born later"
    for member_id, fitness in ((1, -5.0), (2, -4.0), (3, -3.0)):
        lineage.evaluated(replace(make_member(member_id), fitness=fitness))
    lineage.compared(2)
    later, second = lineage[2], lineage[3]
    assert (later.first_fitness, later.parent_fitness) == (-7.0, -9.0)
    assert (second.first_fitness, second.parent_fitness) == (-3.0, -4.0)
    for entry in lineage.entries:
        assert entry_from_json(json.loads(json.dumps(member_json(entry_info(entry)), allow_nan=False))) == entry


def test_a_child_whose_parent_died_has_nobody_beside_it() -> None:
    lineage = three_generations()
    lineage.died(1, 1)
    lineage.evaluated(replace(make_member(2), fitness=-7.0))
    lineage.compared(1)
    assert (lineage[2].first_fitness, lineage[2].parent_fitness) == (-7.0, None)


def test_entries_of_before_have_no_first_fitness() -> None:
    data = member_json(entry_info(three_generations()[2]))
    old = {key: value for key, value in data.items() if key not in ("first_fitness", "parent_fitness")}
    assert entry_from_json(old) == three_generations()[2]


def test_a_fitness_that_is_no_number_becomes_null() -> None:
    lineage = three_generations()
    lineage.evaluated(replace(make_member(3), fitness=math.nan, fitness_stderr=math.inf))
    text = json.dumps(member_json(entry_info(lineage[3])), allow_nan=False)
    assert entry_from_json(json.loads(text)).fitness is None


@pytest.mark.parametrize(
    "damage", [{"member_id": "x"}, {"member_id": None}, {"updates": 10**30}, {"architecture": []}, {"fitness": "good"}]
)
def test_a_damaged_entry_is_refused(damage: dict[str, object]) -> None:
    entry = member_json(entry_info(three_generations()[2]))
    with pytest.raises(StorageError, match="lineage"):
        entry_from_json(entry | damage)


@pytest.mark.parametrize("damaged", [{"member_id": 0}, "member", None])
def test_what_is_no_entry_is_refused(damaged: object) -> None:
    with pytest.raises(StorageError, match="lineage"):
        entry_from_json(damaged)


def test_an_architecture_shows_every_network() -> None:
    shown = json.loads(json.dumps(architecture(make_member())))
    assert set(shown) == set(make_member().networks)
    assert shown["critic_1/speaker"] == {
        "encoders": {
            "speaker": {"kind": "mlp", "hidden_size": [8, 6], "activation": "ReLU"},
            "listener": {"kind": "mlp", "hidden_size": [8, 6], "activation": "ReLU"},
        },
        "latent_dim": 5,
        "head": {"hidden_size": [7], "activation": "ReLU"},
    }
