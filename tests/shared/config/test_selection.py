"""How multi-frequency selection divides a population."""

from __future__ import annotations

from typing import Any

import pytest

from covey.config import parse_config
from covey.config.evolution import Brackets
from covey.errors import ConfigError


def made(pop_size: int, evolution: str = "generational", **selection: Any) -> Any:
    return parse_config(
        {
            "algorithm": {"name": "IPPO"},
            "environment": {"name": "m"},
            "training": {"max_steps": 1000, "pop_size": pop_size},
            "evolution": {"mode": evolution},
            "selection_strategy": {"strategy": "multi_frequency", **selection},
        }
    ).selection_strategy


@pytest.mark.parametrize(
    ("pop_size", "selection", "brackets"),
    [
        (16, {}, Brackets(8, (1, 5), 2, 0, 2, 4)),
        (6, {}, Brackets(3, (1, 5), 1, 0, 0, 2)),
        (12, {"n_subpopulations": 3}, Brackets(4, (1, 5, 10), 1, 0, 1, 2)),
        (12, {"n_winners": 2, "n_survivors": 1, "n_losers": 2}, Brackets(6, (1, 5), 2, 1, 1, 2)),
    ],
)
def test_a_population_is_divided(pop_size: int, selection: dict[str, Any], brackets: Brackets) -> None:
    assert made(pop_size, **selection).brackets(pop_size) == brackets


@pytest.mark.parametrize(
    ("pop_size", "selection", "sentence"),
    [
        (5, {}, "selection_strategy: 2 sub-populations of training.pop_size 5, expected equal ones of at least three"),
        (7, {}, "selection_strategy: 2 sub-populations of training.pop_size 7, expected equal ones"),
        (8, {"n_winners": 3, "n_losers": 2}, "selection_strategy: 3 winners, 0 survivors, 1 open for migration and 2 "),
        (8, {"n_winners": 4}, "selection_strategy: 4 winners, .* expected 4 together, .* at least one loser"),
        (
            6,
            {"evolution_frequency_ratios": [2, 2]},
            r"selection_strategy.evolution_frequency_ratios: \[2, 2\], exp",
        ),
        (6, {"evolution_frequency_ratios": [5, 1]}, "selection_strategy.evolution_frequency_ratios: .* rising"),
        (6, {"evolution_frequency_ratios": [1]}, "selection_strategy.evolution_frequency_ratios: .* expected 2 rising"),
        (6, {"elitism": False}, "selection_strategy: strategy 'multi_frequency' beside elitism, .* leave them out"),
        (6, {"strategy": "tournament", "n_winners": 1}, "selection_strategy: strategy 'tournament' beside n_winners"),
        (6, {"evolution": "steady_state"}, "evolution.mode: 'steady_state', expected 'generational'"),
    ],
)
def test_what_cannot_be_divided_is_refused(pop_size: int, selection: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        made(pop_size, **selection)


def test_what_a_run_keeps_is_read_again() -> None:
    config = parse_config(
        {
            "algorithm": {"name": "IPPO"},
            "environment": {"name": "m"},
            "training": {"max_steps": 1000, "pop_size": 6},
            "selection_strategy": {"strategy": "multi_frequency"},
        }
    )
    assert parse_config(config.model_dump()) == config
