"""The picture of `covey watch`: it fits the screen, whatever a run has, and says what matters."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from covey.cli.watching import Watched, picture, sparkline

STATUS: dict[str, Any] = {
    "run_name": "spread-20261129-083642",
    "run_dir": "runs/spread-20261129-083642",
    "state": "training",
    "algorithm": "IPPO",
    "environment": "covey.envs.mpe.simple_spread_v3",
    "max_steps": 1000,
    "population_size": 4,
    "env_steps": 1000,
    "env_steps_per_s": 100.0,
    "best_fitness": -31.25,
    "best_member": 7,
    "generation": 3,
    "updates": 1234,
    "standstill_s": 0.0,
    "waits": [],
    "events": [
        f"event {n}, which is long enough to be cut off somewhere on a screen of eighty columns" for n in range(20)
    ],
}


def member(number: int, **hyperparameters: float) -> dict[str, Any]:
    return {
        "member_id": number,
        "parent_id": number - 1,
        "fitness": -30.0 - number,
        "fitness_stderr": 0.5,
        "hyperparameters": {"gamma": 0.99} | hyperparameters,
        "state": "collecting",
    }


def actor(name: str) -> dict[str, Any]:
    return {"actor_id": name, "hostname": "here", "state": "idle", "env_steps_per_s": 50.0, "wait_s": 1.5}


def drawn(width: int, height: int, members: int, actors: int, **status: Any) -> list[str]:
    watched = Watched()
    watched.best, watched.returns = [-60.0, -50.0, -31.25], [-70.0, -45.5]
    told = [member(n, lr=0.001 * (n + 1)) for n in range(members)], [actor(f"local-{n}") for n in range(actors)]
    console = Console(file=io.StringIO(), width=width, height=height, markup=False, emoji=False)
    console.print(picture(STATUS | status, *told, watched, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60), (60, 20)])
@pytest.mark.parametrize(("members", "actors"), [(0, 0), (4, 2), (64, 30)])
def test_it_fits_the_screen(width: int, height: int, members: int, actors: int) -> None:
    lines = drawn(width, height, members, actors)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_it_says_how_far_the_run_is_and_who_leads() -> None:
    lines = drawn(100, 30, 4, 2)
    assert lines[0].startswith("spread-20261129-083642  training  IPPO on covey.envs.mpe.simple_spread_v3")
    assert "25%  100 env steps/s  30.0 s left" in lines[1]
    assert lines[2].split() == ["best", "fitness", "-31.25", "(member", "7)", "▁▃█"]
    assert lines[3].split() == ["training", "return", "-45.50", "▁█"]
    first = next(line for line in lines if "-30.00" in line)
    assert first.split() == ["0", "-1", "-30.00", "±0.50", "█" * 10, "lr=0.001", "collecting"], "the fittest is first"
    assert "event 19" in lines[-2] and lines[-1].startswith("p pause")


def test_a_run_that_stands_still_says_why() -> None:
    lines = drawn(100, 30, 4, 0, standstill_s=12.0, waits=["no actor is at work"], env_steps_per_s=0.0)
    assert any(line.startswith("stands still for 12.0 s: no actor is at work") for line in lines)
    assert "no steps now" in lines[1]


def test_curves_are_drawn_from_lowest_to_highest() -> None:
    assert sparkline([0.0, 7.0, 3.5, math.nan], 10) == "▁█▅ "
    assert sparkline([2.0, 2.0], 10) == "▁▁"
    assert sparkline([], 10) == ""
    assert sparkline([float(n) for n in range(100)], 8) == "▁▂▃▄▅▆▇█"
