"""The MPE tasks as arrays play as mpe2 does: agents, spaces, observations, rewards and ends from the same seeds."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest
from benchmarks.array_parity import ARGUMENTS, OF_ALL, cases, compare

from covey.envs.mpe import TASKS

CASES = [(task, config) for task in TASKS for config in cases(task)]
NOT_COMPARED = {"num_envs", "render_mode", "benchmark_data", "continuous_actions"}


@pytest.mark.parametrize(("task", "config"), CASES, ids=[f"{task}-{config}" for task, config in CASES])
def test_the_numbers_are_mpe2s(task: str, config: dict[str, Any]) -> None:
    found = compare(task, config, episodes=3, first_seed=11)
    assert found.observation <= 1e-12 and found.reward <= 1e-12
    assert found.steps


@pytest.mark.parametrize("task", TASKS)
def test_every_argument_of_mpe2_is_taken_and_compared(task: str) -> None:
    single, arrays = (importlib.import_module(f"{package}.{task}") for package in ("mpe2", "covey.envs.mpe"))
    theirs = inspect.signature(single.raw_env).parameters
    ours = inspect.signature(arrays.parallel_env).parameters
    assert {n: p.default for n, p in ours.items() if n != "num_envs"} == {n: p.default for n, p in theirs.items()}
    assert {*theirs} - NOT_COMPARED <= {name for config in (*ARGUMENTS[task], *OF_ALL) for name in config}


@pytest.mark.parametrize(
    ("task", "config"),
    [(t, {**c, "max_cycles": 200}) for t in TASKS for c in ARGUMENTS[t] if "terminate_on_success" in c],
)
def test_episodes_that_succeed_end_in_the_same_step(task: str, config: dict[str, Any]) -> None:
    found = compare(task, config, episodes=30)
    assert found.ended_early and found.observation <= 1e-12 and found.reward <= 1e-12
