"""`covey train` in the environments of others, and what `covey check-env` says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.environments import ALGORITHMS, TASKS, Task, train
from tests.support.processes import covey_json

QUICK = ("simple_adversary_v3", "knights_archers_zombies_v11", "tictactoe_v3")
"""Simultaneous; agents die; turns and masks."""


def name(task: Task) -> str:
    return task.name.rpartition(".")[2]


tasks = pytest.mark.parametrize(
    "task",
    [pytest.param(t, id=name(t), marks=() if name(t) in QUICK else pytest.mark.learning) for t in TASKS],
)


@tasks
def test_an_environment_is_described_rightly(task: Task) -> None:
    told = covey_json("check-env", task.name, "--json")
    assert told["trainable"] and told["api_test"] == "passed" and told["faults"] == []
    assert told["kind"] == task.kind and told["agents_die"] == task.dies
    assert all(agent["masked"] == (task.kind == "turn-based") for agent in told["agents"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("task", [t for t in TASKS if name(t) in QUICK], ids=name)
def test_a_short_run_goes_well(task: Task, algorithm: str, tmp_path: Path) -> None:
    result = train(task, algorithm, 600, tmp_path)
    assert result["ok"], result
    assert result["env_steps"] == 600 and result["generations"] == 2 and result["updates"] > 0


@pytest.mark.learning
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("task", TASKS, ids=name)
def test_a_run_of_20_000_env_steps_goes_well(task: Task, algorithm: str, tmp_path: Path) -> None:
    result = train(task, algorithm, 20_000, tmp_path)
    assert result["ok"], result
    assert result["env_steps"] == 20_000 and result["updates"] > 0
