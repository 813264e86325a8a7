"""Does evolution pay? Evolution, random search and fixed defaults at equal env steps; prints a JSON object a line.

    .venv/bin/python benchmarks/evolution.py [--tasks speaker_listener spread] [--runs 10] [--steps N] [--members 8]
        [--jobs 1] [--folder runs]

A run trains a population for `--steps` env steps of each member, by one of three methods:

    evolution   hyperparameters drawn from wide ranges, by equal seeds the same as in random search; tournaments and the
                example's mutations between ten generations
    random      hyperparameters drawn from the same ranges, kept to the end, without selection
    fixed       covey's default values of these hyperparameters, without selection: seeds alone differ

In all three the members of the last generation play as many episodes, the best of them is confirmed, and a run's score
is what its best policy does in `--episodes` further ones, which chose nothing. Everything else is the example's.

Each method of a task is a sweep in `--folder`, so that the same command goes on where it was stopped, and
`covey table evolution_spread random_spread fixed_spread` compares them further. A line for each run is followed by one
for each task, with the interquartile mean of each method and the probability that a run of evolution scores higher than
one of the others, all with 95 % intervals. With the defaults it takes a day on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from covey.config import load_config
from covey.experiments.grid import override
from covey.experiments.levels import read_levels
from covey.experiments.scores import Score, read_scores
from covey.experiments.statistics import estimate as estimated
from covey.experiments.statistics import iqm, probability_of_improvement
from covey.experiments.sweep_directory import SweepDirectory

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("evolution", "random", "fixed")
GENERATIONS = 10


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        config: Of the examples; its environment steps as arrays.
        ranges: Least and largest value of the hyperparameters that evolution and random search look for.
        steps: Env steps of a member, unless others are asked for.
    """

    config: str
    ranges: Mapping[str, tuple[float, float]]
    steps: int


TASKS = {
    "speaker_listener": Task(
        "speaker_listener.yaml",
        {"lr_actor": (1e-4, 3e-2), "lr_critic": (1e-4, 3e-2), "tau": (1e-3, 1e-1), "gamma": (0.8, 0.99)},
        200_000,
    ),
    "spread": Task(
        "ippo_spread.yaml", {"lr": (1e-4, 3e-2), "ent_coef": (1e-4, 1e-1), "clip_coef": (0.05, 0.5)}, 400_000
    ),
}


def settings(task: Task, method: str, steps: int, members: int) -> dict[str, Any]:
    """What differs from the example in all runs of a method, by key of the configuration."""
    found: dict[str, Any] = {"training.max_steps": steps, "training.pop_size": members, "mutation.pre_training": False}
    if method != "fixed":
        found["mutation.rl_hp_selection"] = {name: {"min": a, "max": b} for name, (a, b) in task.ranges.items()}
        found["mutation.draw_initial_rl_hp"] = True
    else:
        algorithm = load_config(ROOT / "examples" / task.config).algorithm
        found |= {f"algorithm.{name}": type(algorithm).model_fields[name].default for name in task.ranges}
    # A generation as long as the run ends with an evaluation, and with neither selection nor mutation.
    found["training.evo_steps"] = max(1, steps // GENERATIONS) if method == "evolution" else steps
    return found


def train(name: str, task: Task, options: Mapping[str, Any], given: argparse.Namespace) -> SweepDirectory:
    """Train the runs of a sweep that are not complete, and evaluate them.

    Raises:
        SystemExit: a run failed, or the folder has a sweep of other settings.
    """
    command = [sys.executable, "-m", "covey", "sweep", str(ROOT / "examples" / task.config), f"--name={name}"]
    command += [f"--runs={given.folder}", f"--seeds=0-{given.runs - 1}", f"--jobs={given.jobs}"]
    command += [f"--episodes={given.episodes}"]
    for key, value in options.items():
        command += ["--set", override(key, value)]
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | os.environ
    done = subprocess.run(command, env=environment, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"{name}: covey sweep ended with exit status {done.returncode}, expected 0; see what it said")
    return SweepDirectory(given.folder / name)


def compared(task: str, runs: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """The methods of a task beside each other."""
    scores = {method: [np.array([run.score for run in found])] for method, found in runs.items()}
    return {
        "task": task,
        "runs": {method: len(found) for method, found in runs.items()},
        "env_steps_per_member": sorted({run.env_steps for found in runs.values() for run in found}),
        "iqm": {method: asdict(estimated(iqm, found)) for method, found in scores.items()},
        "evolution_better_than": {
            method: asdict(probability_of_improvement(scores["evolution"], scores[method]))
            for method in METHODS
            if method != "evolution"
        },
    }


def main() -> None:
    """Train what is missing, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--runs", type=int, default=10, help="of each method and task, with seeds from 0 on")
    parser.add_argument("--steps", type=int, help="env steps of each member; those of the task if left out")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1, help="runs that are trained at a time")
    parser.add_argument("--episodes", type=int, default=1000, help="that score a run")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where the sweeps are")
    given = parser.parse_args()
    if given.runs < 1 or given.members < 2 or (given.steps is not None and given.steps < GENERATIONS):
        parser.error(f"expected --runs of at least 1, --members of at least 2, and --steps of at least {GENERATIONS}")
    for name in given.tasks:
        task = TASKS[name]
        found: dict[str, Sequence[Score]] = {}
        for method in METHODS:
            options = settings(task, method, given.steps or task.steps, given.members)
            sweep = train(f"{method}_{name}", task, options, given)
            scored = read_scores([sweep], read_levels()).scored
            found[method] = [run for run in scored if run.seed < given.runs]
            for run in found[method]:
                line = {"task": name, "method": method, "seed": run.seed, "score": run.score, "wall_s": run.wall_s}
                print(json.dumps(line | {"env_steps_per_member": run.env_steps}), flush=True)
        print(json.dumps(compared(name, found)), flush=True)


if __name__ == "__main__":
    main()
