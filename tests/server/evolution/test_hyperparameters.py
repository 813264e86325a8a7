"""Ranges and single steps of evolvable hyperparameters."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.config import Config, OffPolicyHyperparameters, RLParameter, parse_config
from covey.errors import ConfigError
from covey_server.evolution.hyperparameters import drawn, mutate_hyperparameter, ranges, scaled
from covey_server.member import Member


def configured(selection: dict[str, Any], *, algorithm: str = "MATD3", **values: Any) -> Config:
    return parse_config(
        {
            "algorithm": {"name": algorithm, **values},
            "environment": {"name": "mpe2.simple_v3"},
            "mutation": {"rl_hp_selection": selection},
            "training": {},
        }
    )


def without_networks() -> Member:
    """A member that has hyperparameters and a debt, and nothing that costs time."""
    values = OffPolicyHyperparameters(lr_actor=0.001, lr_critic=0.01, batch_size=64, learn_step=5)
    return Member(member_id=0, networks={}, hyperparameters=values, unpaid_steps=13)


def test_default_ranges_follow_the_configured_values() -> None:
    result = ranges(configured({}, lr_actor=0.002, batch_size=64, learn_step=3))
    assert set(result) == {"lr_actor", "lr_critic", "batch_size", "learn_step"}
    lr, batch, learn = result["lr_actor"], result["batch_size"], result["learn_step"]
    assert [lr.min, lr.max, lr.grow_factor, lr.shrink_factor] == pytest.approx([0.0002, 0.02, 1.2, 0.8])
    assert (batch.min, batch.max, batch.grow_factor, batch.shrink_factor) == (16, 256, 1.5, 0.75)
    assert (learn.min, learn.max) == (1, 12)  # max(1, 3 // 4)
    assert lr.dtype == "float" and batch.dtype == learn.dtype == "int"


def test_default_ranges_end_at_what_a_configuration_accepts() -> None:
    result = ranges(configured({}, lr_critic=0.5, batch_size=60_000))
    assert result["lr_critic"].max == 1.0 and result["batch_size"].max == 65536


def test_selected_ranges_replace_the_defaults_and_the_kind_is_the_hyperparameters_own() -> None:
    result = ranges(
        configured({"batch_size": {"min": 8.5, "max": 512.5, "dtype": "float"}, "tau": {"min": 0.001, "max": 0.1}})
    )
    assert set(result) == {"batch_size", "tau"}
    assert (result["batch_size"].min, result["batch_size"].max, result["batch_size"].dtype) == (9, 512, "int")
    assert result["tau"].dtype == "float"


@pytest.mark.parametrize(
    ("selection", "algorithm", "words"),
    [
        ({"policy_freq": {"min": 1, "max": 4}}, "MADDPG", ["rl_hp_selection.policy_freq", "MADDPG"]),
        ({"learn_step": {"min": 0, "max": 4}}, "MATD3", ["rl_hp_selection.learn_step.min", "greater than or equal"]),
        ({"tau": {"min": 0.1, "max": 2.0}}, "MATD3", ["rl_hp_selection.tau.max", "less than or equal to 1"]),
        ({"learn_step": {"min": 2.2, "max": 2.8}}, "MATD3", ["no integer", "2.2"]),
        ({"learn_step": {"min": 1, "max": float("inf")}}, "MATD3", ["finite", "inf"]),
        ({"gamma": {"min": float("nan"), "max": 0.9}}, "MATD3", ["finite", "nan"]),
    ],
)
def test_ranges_that_cannot_be_are_refused(selection: dict[str, Any], algorithm: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        ranges(configured(selection, algorithm=algorithm))
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 1000), st.booleans())
def test_an_integer_moves_by_at_least_one_within_its_bounds(a: int, b: int, value: int, grow: bool) -> None:
    low, high = sorted((a, b))
    value = min(max(value, low), high)
    new = scaled(value, RLParameter(min=low, max=high, grow_factor=1.2, shrink_factor=0.8, dtype="int"), grow=grow)
    assert type(new) is int and low <= new <= high
    if value != (high if grow else low):
        assert (new - value) * (1 if grow else -1) >= 1


@given(st.floats(1e-5, 1.0), st.booleans())
def test_a_float_moves_by_its_factor_or_to_its_bound(value: float, grow: bool) -> None:
    new = scaled(value, RLParameter(min=1e-5, max=1.0, grow_factor=1.2, shrink_factor=0.8, dtype="float"), grow=grow)
    assert new == pytest.approx(min(value * 1.2, 1.0) if grow else max(value * 0.8, 1e-5))


def test_small_integers_do_not_stall() -> None:
    limits = RLParameter(min=1, max=100, grow_factor=1.2, shrink_factor=0.8, dtype="int")
    assert [scaled(v, limits, grow=True) for v in (1, 2, 4, 9, 20)] == [2, 3, 5, 11, 24]
    assert [scaled(v, limits, grow=False) for v in (1, 2, 4, 9, 20)] == [1, 1, 3, 7, 16]


@pytest.mark.parametrize(
    ("limits", "below"),
    [
        (RLParameter(min=1e-4, max=1e-2, dtype="float"), 1e-3),  # the geometric middle
        (RLParameter(min=1, max=255, dtype="int"), 11.3),  # that of 0.5 and 255.5
        (RLParameter(min=0.0, max=0.5, dtype="float"), 0.25),  # there is no logarithm of 0
        (RLParameter(min=0, max=9, dtype="int"), 4.5),
    ],
)
def test_values_are_drawn_from_the_whole_of_a_range_by_their_logarithm(limits: RLParameter, below: float) -> None:
    rng = np.random.default_rng(0)
    values = [drawn(limits, rng) for _ in range(4000)]
    assert all(type(v) is (int if limits.dtype == "int" else float) and limits.min <= v <= limits.max for v in values)
    assert abs(sum(v < below for v in values) / 4000 - 0.5) < 0.04
    assert min(values) <= limits.min + 0.02 * (limits.max - limits.min) and max(values) >= 0.9 * limits.max


def test_a_range_of_one_value_gives_that_value() -> None:
    rng = np.random.default_rng(0)
    assert {drawn(RLParameter(min=0.3, max=0.3, dtype="float"), rng) for _ in range(50)} == {0.3}
    assert {drawn(RLParameter(min=7, max=7, dtype="int"), rng) for _ in range(50)} == {7}


def test_one_hyperparameter_changes_each_as_often_and_each_way_as_often() -> None:
    allowed = ranges(configured({}))
    counts, n = {(name, way): 0 for name in allowed for way in (-1, 1)}, 8000
    rng = np.random.default_rng(0)
    for _ in range(n):
        member = without_networks()
        before = member.hyperparameters.numbers()
        kind, change = mutate_hyperparameter(member, allowed, rng)
        after = member.hyperparameters.numbers()
        (name,) = [k for k in before if after[k] != before[k]]
        assert kind == "rl_hp" and change.startswith(f"{name} ") and "->" in change
        counts[name, 1 if after[name] > before[name] else -1] += 1
    p = 1 / len(counts)
    assert all(abs(c - n * p) < 5 * np.sqrt(n * p * (1 - p)) for c in counts.values())


def test_at_its_bound_a_hyperparameter_stays_and_says_so() -> None:
    member = without_networks()
    limits = RLParameter(min=64, max=64, grow_factor=1.2, shrink_factor=0.8, dtype="int")
    kind, change = mutate_hyperparameter(member, {"batch_size": limits}, np.random.default_rng(0))
    assert kind == "none" and change == "batch_size 64 stays: range 64 to 64"
    assert member.hyperparameters.batch_size == 64


@given(
    unpaid=st.integers(0, 10_000), old=st.integers(1, 500), factor=st.sampled_from([0.75, 1.5]), seed=st.integers(0, 99)
)
def test_a_new_learn_step_keeps_updates_due_and_the_fraction(unpaid: int, old: int, factor: float, seed: int) -> None:
    member = without_networks()
    member.hyperparameters, member.unpaid_steps = member.hyperparameters.changed(learn_step=old), unpaid
    limits = RLParameter(min=1, max=10_000, grow_factor=1.5, shrink_factor=factor if factor < 1 else 0.5, dtype="int")
    mutate_hyperparameter(member, {"learn_step": limits}, np.random.default_rng(seed))
    new = member.hyperparameters.learn_step
    assert member.unpaid_steps // new == unpaid // old
    error = (unpaid % old) / old - (member.unpaid_steps % new) / new
    assert 0 <= error + 1e-9 < 1 / new + 1e-9


def test_other_hyperparameters_leave_updates_due_alone() -> None:
    member = without_networks()
    for seed in range(5):
        mutate_hyperparameter(
            member,
            {"batch_size": RLParameter(min=1, max=999, grow_factor=1.2, shrink_factor=0.8, dtype="int")},
            np.random.default_rng(seed),
        )
    assert member.unpaid_steps == 13
