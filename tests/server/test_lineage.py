"""The record of who descends from whom."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from tests.members import make_member

from covey.errors import StorageError
from covey_server.lineage import Lineage, architecture


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


def test_a_line_leads_back_to_the_first_population() -> None:
    lineage = three_generations()
    assert [e.member_id for e in lineage.line(3)] == [3, 2, 1]
    assert [e.member_id for e in lineage.line(0)] == [0]


def test_an_entry_tells_how_a_member_was_made_and_how_it_did() -> None:
    lineage = three_generations()
    member = replace(make_member(2), fitness=-7.5, fitness_stderr=0.25, env_steps=5000, updates=999, mutation="elite")
    lineage.evaluated(member)
    entry = lineage[2]
    assert (entry.mutation, entry.change, entry.parent_id) == ("rl_hp", "lr_actor 0.001 -> 0.0012", 1)
    assert (entry.fitness, entry.fitness_stderr, entry.env_steps, entry.updates) == (-7.5, 0.25, 5000, 999)
    assert entry.died_generation is None and lineage[0].died_generation == 1
    assert entry.hyperparameters == member.hyperparameters
    assert entry.architecture == architecture(member)


def test_entries_do_not_follow_later_changes_of_a_member() -> None:
    lineage, member = Lineage(), make_member(0)
    lineage.born(member)
    member.hyperparameters["batch_size"] = 1
    assert lineage[0].hyperparameters["batch_size"] == 64


def test_ids_are_never_given_twice() -> None:
    lineage = three_generations()
    assert lineage.next_member_id == 4 and Lineage().next_member_id == 0
    lineage.died(3, 3)
    assert lineage.next_member_id == 4
    with pytest.raises(ValueError, match="never reused"):
        lineage.born(make_member(3))


def test_json_gives_the_lineage_back() -> None:
    lineage = three_generations()
    again = Lineage.from_json(json.loads(json.dumps(lineage.to_json(), allow_nan=False)))
    assert again.entries == lineage.entries
    assert again.to_json() == lineage.to_json()


def test_a_fitness_that_is_no_number_becomes_null() -> None:
    lineage = three_generations()
    lineage.evaluated(replace(make_member(3), fitness=math.nan, fitness_stderr=math.inf))
    text = json.dumps(lineage.to_json(), allow_nan=False)
    assert Lineage.from_json(json.loads(text))[3].fitness is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda items: items[1:],  # a parent is missing
        lambda items: [*items, items[0]],  # a member twice
        lambda items: [{**items[0], "surprise": 1}],
        lambda items: [{"member_id": 0}],
        lambda items: ["member"],
    ],
)
def test_a_damaged_lineage_is_refused(damage: Any) -> None:
    items = [i for i in three_generations().to_json() if i["member_id"]]
    with pytest.raises(StorageError, match="lineage"):
        Lineage.from_json(damage(items))


def test_an_architecture_shows_every_network() -> None:
    shown = json.loads(json.dumps(architecture(make_member())))
    assert set(shown) == set(make_member().networks)
    assert shown["critic_1/speaker"] == {
        "encoders": {
            "speaker": {"hidden_size": [8, 6], "activation": "ReLU"},
            "listener": {"hidden_size": [8, 6], "activation": "ReLU"},
        },
        "latent_dim": 5,
        "head": {"hidden_size": [7], "activation": "ReLU"},
    }
