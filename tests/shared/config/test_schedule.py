"""Hyperparameters that move over a run."""

from __future__ import annotations

from typing import Any

import pytest

from covey.config import parse_config
from covey.config.schedule import Scheduled
from covey.errors import ConfigError


def made(**algorithm: Any) -> Any:
    job = {"algorithm": {"name": "MAPPO", **algorithm}, "environment": {"name": "m"}, "training": {"max_steps": 1000}}
    return parse_config(job)


def test_a_number_moves_to_another_and_members_follow_at_their_own_height() -> None:
    settings = made(lr={"from": 0.004, "to": 0.001}, ent_coef={"from": 0.02, "to": 0}).algorithm
    assert settings.initial_hyperparameters().numbers().items() >= {"lr": 0.004, "ent_coef": 0.02}.items()
    assert not isinstance(settings.initial_hyperparameters().lr, Scheduled)
    assert settings.shares(0) == {"lr": 1, "ent_coef": 1}
    assert settings.shares(0.5) == pytest.approx({"lr": 0.625, "ent_coef": 0.5})
    assert settings.shares(1) == settings.shares(1.5) == {"lr": 0.25, "ent_coef": 0}
    assert made(lr=0.004).algorithm.shares(0.5) == {}


def test_what_a_run_keeps_is_read_again() -> None:
    config = made(lr={"from": 0.004, "to": 0.001})
    kept = config.model_dump(mode="json")
    assert kept["algorithm"]["lr"] == {"from": 0.004, "to": 0.001}
    assert parse_config(kept) == config and parse_config(kept).algorithm.shares(1) == {"lr": 0.25}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"from": 0.1}, "algorithm.lr: from: expected a number, or from and to"),
        ({"from": 0.1, "to": 0.2, "by": 3}, "algorithm.lr: from, to, by: expected a number, or from and to"),
        ({}, "algorithm.lr: nothing: expected a number, or from and to"),
        ({"from": 0.1, "to": 5}, "algorithm.lr: 5: expected less than or equal to 1"),
        ({"from": 0, "to": 0.1}, "algorithm.lr: 0: expected greater than 0"),
        ({"from": "much", "to": 0}, "algorithm.lr: 'much': expected a number"),
        ({"from": 0.1, "to": float("nan")}, "algorithm.lr: nan: expected"),
        ("0.1 to 0", "algorithm.lr: '0.1 to 0': expected a number"),
    ],
)
def test_bad_schedules_are_refused(value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        made(lr=value)


def test_other_keys_do_not_move() -> None:
    with pytest.raises(ConfigError, match=r"^algorithm.gamma: \{'from': 0.9, 'to': 0.99\}: expected a number"):
        made(gamma={"from": 0.9, "to": 0.99})
