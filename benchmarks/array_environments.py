"""How fast the MPE tasks as arrays (covey.envs.mpe) are beside mpe2 through PettingZoo's parallel interface.

    .venv/bin/python benchmarks/array_environments.py [--copies 64 1024] [--seconds 1.0] [--task NAME]

Prints one JSON object. Figures are env steps (one of one copy) per CPU second, at random discrete actions that are
drawn beforehand for both; whole episodes, resets included: `exact` with a seed for each, as mpe2 has them, `together`
with all episodes drawn by one generator. `times` are those figures over mpe2's of the rounds beside them (ABBA).
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from covey.envs import build_slots, load_environment, read_spaces
from covey.envs.mpe import TASKS

EPISODE = 25
"""Env steps of an episode, the tasks' default."""

ROUNDS = 4


def rate(episode: Callable[[int], None], copies: int, seconds: float) -> float:
    """Env steps per CPU second of playing episodes of so many copies, each with another number, for some time."""
    episode(0)
    start, spent, done = time.process_time(), 0.0, 0
    while spent < seconds:
        done += 1
        episode(done)
        spent = time.process_time() - start
    return done * copies * EPISODE / spent


def of_mpe2(task: str) -> Callable[[int], None]:
    """Play an episode of mpe2's environment."""
    env = importlib.import_module(f"mpe2.{task}").parallel_env()
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    actions = [{a: int(rng.integers(env.action_space(a).n)) for a in env.agents} for _ in range(EPISODE)]

    def episode(number: int) -> None:
        env.reset(seed=number)
        for chosen in actions:
            env.step(chosen)

    return episode


def of_arrays(task: str, copies: int, together: bool) -> Callable[[int], None]:
    """Play an episode of each of so many copies."""
    factory = load_environment(f"covey.envs.mpe.{task}", {})
    spaces = read_spaces(factory())
    env: Any = build_slots(factory, spaces, copies)
    rng = np.random.default_rng(0)
    actions = [[rng.integers(g.action.width, size=(copies, len(g))) for g in spaces.groups] for _ in range(EPISODE)]
    slots = list(range(copies))

    def episode(number: int) -> None:
        if together:
            env.reset_batch(slots, number)
        else:
            env.reset(slots, range(number * copies, (number + 1) * copies))
        for chosen in actions:
            env.step(slots, chosen)

    return episode


def measure(task: str, sizes: list[int], seconds: float) -> dict[str, Any]:
    """Figures of one task."""
    ways = {
        (n, how): of_arrays(task, n, how == "together") for n, how in itertools.product(sizes, ("exact", "together"))
    }
    single = of_mpe2(task)
    slow: list[float] = []
    fast: dict[tuple[int, str], list[float]] = {way: [] for way in ways}
    for i in range(ROUNDS):
        # mpe2 first and then the others, or the other way round.
        if i % 2 == 0:
            slow.append(rate(single, 1, seconds))
        for (n, how), episode in ways.items():
            fast[n, how].append(rate(episode, n, seconds / len(ways)))
        if i % 2:
            slow.append(rate(single, 1, seconds))
    result: dict[str, Any] = {"mpe2": round(median(slow))}
    for (n, how), figures in fast.items():
        times = median(f / s for f, s in zip(figures, slow, strict=True))
        result[f"{how}_{n}"] = {"env_steps_per_cpu_s": round(median(figures)), "times": round(times, 1)}
    return result


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds of each of four rounds of mpe2")
    parser.add_argument("--task", choices=TASKS, action="append", help="repeatable; all if left out")
    options = parser.parse_args()
    tasks = {task: measure(task, options.copies, options.seconds) for task in options.task or TASKS}
    print(json.dumps({"benchmark": "array_environments", "rounds": ROUNDS, "tasks": tasks}))


if __name__ == "__main__":
    main()
