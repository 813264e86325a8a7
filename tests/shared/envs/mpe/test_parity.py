"""The MPE tasks as arrays play as mpe2 does: agents, spaces, observations, rewards and ends from the same seeds."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from benchmarks.array_parity import ARGUMENTS, OF_ALL, cases, compare

from covey.envs.mpe import TASKS, world


def some_cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """Both kinds of actions with the defaults, one of them with each argument; the command has them all."""
    for task in TASKS:
        every = list(cases(task))
        half = len(every) // 2
        for i, (discrete, continuous) in enumerate(zip(every[:half], every[half:], strict=True)):
            if i % 2 == 0:
                yield task, discrete
            if i % 2 or i == 0:
                yield task, continuous


CASES = list(some_cases())
NOT_COMPARED = {"num_envs", "render_mode", "benchmark_data", "continuous_actions"}


@pytest.mark.parametrize(("task", "config"), CASES, ids=[f"{task}-{config}" for task, config in CASES])
def test_the_numbers_are_mpe2s(task: str, config: dict[str, Any]) -> None:
    found = compare(task, config, episodes=2, first_seed=11)
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
    ("task", "config", "seed"),
    [
        ("simple_spread_v3", {"N": 1, "max_cycles": 40}, 47),
        ("simple_spread_v3", {"N": 1, "max_cycles": 40, "continuous_actions": True}, 79),
        ("simple_tag_v3", {"num_adversaries": 6}, 269),
        ("simple_tag_v3", {"num_adversaries": 6, "continuous_actions": True}, 36),
    ],
)
def test_episodes_that_succeed_end_in_the_same_step(task: str, config: dict[str, Any], seed: int) -> None:
    found = compare(task, {**config, "terminate_on_success": True}, 3, seed)
    assert found.ended_early >= 2 and found.observation <= 1e-12 and found.reward <= 1e-12


def test_what_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "DAMPING", 0.25 + 1e-9)
    found = compare("simple_spread_v3", {}, episodes=2)
    assert found.observation > 1e-12 and found.reward > 1e-12


@pytest.mark.parametrize("task", ["simple_spread_v3", "simple_tag_v3"])
def test_mpe2_stays_in_the_first_stage_of_its_curriculum(task: str) -> None:
    """If this fails, later stages can be reached, and arrays need them too."""
    single = importlib.import_module(f"mpe2.{task}").raw_env(curriculum=True)
    single.advance_curriculum()
    single.set_curriculum_stage(1)
    assert single.curriculum_stage == 0
