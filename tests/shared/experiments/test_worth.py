"""What each kind of mutation was worth: numbers computed by hand from lineages that are written here."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.support.lineages import member

from covey.experiments.worth import children_of, worth_of


def test_a_child_is_compared_with_its_parent_that_went_on_and_with_exact_copies_of_it() -> None:
    lineage = [
        member(0, first=-30.0),
        member(1, first=-40.0),
        # Of the elite, which has -20 a generation later.
        member(2, 0, 1, "rl_hp", "lr_actor 0.001 -> 0.0012", first=-17.0, parent=-20.0),
        member(3, 0, 1, "rl_hp", "lr_actor 0.001 -> 0.0008", first=-25.0, parent=-20.0),
        # Of member 1, which did not go on, but of which there are two copies.
        member(4, 1, 1, "none", first=-32.0),
        member(5, 1, 1, "none", "lr_actor 0.01 stays: range 0.0001 to 0.01", first=-34.0),
        member(6, 1, 1, "architecture", "head.add_node +32 in 2 of 4 networks; head.add_node +16", first=-30.0),
        # A copy of member 1 in another generation is none of theirs.
        member(7, 1, 2, "none", first=0.0),
        # An only child of a parent that did not go on.
        member(8, 2, 2, "parameters", "noise added to 99 policy weights", first=-10.0),
    ]
    worth = {(w.kind, w.change): w for w in worth_of(children_of(lineage))}
    assert list(worth) == [
        *(("none", ""), ("parameters", "")),
        *(("architecture", ""), ("architecture", "head.add_node")),
        *(("rl_hp", ""), ("rl_hp", "lr_actor down"), ("rl_hp", "lr_actor up")),
    ]
    gains = {key: None if w.gain is None else w.gain.value for key, w in worth.items()}
    assert gains["rl_hp", "lr_actor up"] == 3.0 and gains["rl_hp", "lr_actor down"] == -5.0
    assert gains["rl_hp", ""] == -1.0
    # -30 less the mean of -32 and -34.
    assert gains["architecture", ""] == gains["architecture", "head.add_node"] == 3.0
    assert gains["none", ""] == 0.0, "of two copies, what one has more the other has less"
    assert gains["parameters", ""] is None
    counts = [(w.children, w.compared) for w in worth.values()]
    assert counts == [(3, 2), (1, 0), (1, 1), (1, 1), (2, 2), (1, 1), (1, 1)]


def test_an_elite_that_is_copied_counts_with_its_copies() -> None:
    lineage = [
        member(1, 0, 1, "none", first=-10.0, parent=-20.0),
        member(2, 0, 1, "activation", "ReLU -> GELU", first=-12.0, parent=-20.0),
    ]
    gains = {c.kind: c.gain for c in children_of(lineage)}
    assert gains == {"none": 10.0, "activation": 3.0}  # -12 less the mean of -20 and -10


def test_what_a_long_lived_child_has_later_is_not_its_gain() -> None:
    elite = member(1, 0, 1, "rl_hp", "gamma 0.9 -> 0.95", first=-19.0, parent=-20.0, fitness=-3.0, died_generation=None)
    assert [c.gain for c in children_of([elite])] == [1.0]


def test_the_interval_is_of_the_mean_over_children() -> None:
    gains = [1.0, 2.0, 3.0, 4.0, 5.0] * 4
    lineage = [member(i, 0, i, "parameters", first=g, parent=0.0) for i, g in enumerate(gains, start=1)]
    (worth,) = worth_of(children_of(lineage))
    assert worth.gain is not None and worth.gain.value == 3.0 and worth.compared == 20
    half = 1.96 * math.sqrt(2.0 / 20)  # the gains' variance is 2
    assert (worth.gain.low, worth.gain.high) == pytest.approx((3.0 - half, 3.0 + half), abs=0.1)


def test_children_without_a_fitness_have_diverged_or_are_too_young() -> None:
    lineage = [
        member(1, 0, 1, "rl_hp", "lr 0.1 -> 0.12", parent=-20.0),
        member(2, 0, 1, "rl_hp", "lr 0.1 -> 0.12", parent=-20.0, died_generation=None),
        member(3, 0, 1, "rl_hp", "lr 0.1 -> 0.12", first=math.nan, parent=-20.0),
        member(4, 0, 1, "rl_hp", "lr 0.1 -> 0.12", first=-18.0, parent=-20.0),
    ]
    whole, up = worth_of(children_of(lineage))
    assert (whole.children, whole.compared, whole.diverged) == (up.children, up.compared, up.diverged) == (3, 1, 2)


def test_lineages_of_before_are_read_and_nothing_is_made_up_from_them() -> None:
    """They have a member's newest fitness alone, which for the fittest is not that of their first generation."""
    lineage = (member(0, first=-3.0), member(1, 0, 1, "parameters", first=-2.0), member(2, 0, 1, "none", first=-9.0))
    old = [{key: m[key] for key in m if key not in ("first_fitness", "parent_fitness")} for m in lineage]
    children = children_of(old)
    assert [(c.known, c.gain, c.diverged) for c in children] == [(False, None, False)] * 2
    assert all(w.gain is None for w in worth_of(children))


def test_migrants_are_a_kind_of_their_own() -> None:
    lineage = [
        member(1, 0, 1, "migrant", first=-10.0, parent=-12.0),
        member(2, 0, 1, "migrant", "hyperparameters of member 9", first=-14.0, parent=-12.0),
    ]
    assert [(w.kind, w.change, w.children) for w in worth_of(children_of(lineage))] == [
        ("migrant", "", 2),
        ("migrant", "weights alone", 1),
    ]


@pytest.mark.parametrize("spoilt", [{"parent_id": "x"}, {"generation": []}, {"fitness": "high"}])
def test_what_is_no_lineage_is_an_error(spoilt: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        children_of([member(1, 0, 1, "none", first=-9.0) | spoilt, {"mutation": "none"}])
