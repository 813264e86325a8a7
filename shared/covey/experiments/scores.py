"""What the runs of sweeps scored, read from their directories.

The score of a run is that of its best policy, and its curve that of the kept generations' fittest members, in episodes
that `covey evaluate --keep` played afterwards. No such episode chose anything: fitness, by which members are compared
and the best is chosen, is the highest of many noisy numbers and so too high on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from covey.config import load_config
from covey.errors import CoveyError
from covey.experiments.grid import value_text
from covey.experiments.levels import Task, task_of
from covey.experiments.run_process import is_evaluated, is_trained
from covey.experiments.sweep_directory import COMBINATION, SweepDirectory
from covey.run.directory import RunDirectory
from covey.run.files import read_json


@dataclass(frozen=True, slots=True)
class Score:
    """What one run scored.

    Attributes:
        run: Its directory.
        label: Name of its settings: those that its sweep varies, without the environment.
        seed: Its seed.
        environment: Name of its task: the environment, and arguments that tell it from others of the sweep.
        task: Levels of the task; None where none are known.
        score: Mean return of an episode of its best policy.
        episodes: How many episodes that is the mean of.
        env_steps: Env steps that each member was trained for.
        wall_s: Seconds of training.
        curve: Pairs of env steps of each member, and what the fittest member then scored; rising.
    """

    run: Path
    label: str
    seed: int
    environment: str
    task: Task | None
    score: float
    episodes: int
    env_steps: float
    wall_s: float
    curve: tuple[tuple[float, float], ...]

    def at(self, env_steps: float) -> float | None:
        """What the fittest member of the newest generation scored that had ended by then; None before the first."""
        return next((score for steps, score in reversed(self.curve) if steps <= env_steps), None)


@dataclass(frozen=True, slots=True)
class Scores:
    """The runs of sweeps.

    Attributes:
        scored: Runs that were evaluated.
        missing: A sentence for each run that has no score, with the reason.
    """

    scored: list[Score]
    missing: list[str]


def read_scores(sweeps: Sequence[SweepDirectory], tasks: Sequence[Task]) -> Scores:
    """Read what the runs of sweeps scored.

    Args:
        sweeps: Their directories. With several, a run's settings are named after its sweep too.
        tasks: Tasks whose levels are known.

    Raises:
        StorageError: a directory is no sweep's, or cannot be read.
    """
    found = Scores([], [])
    for sweep in sweeps:
        sweep.read()  # refuses what is no sweep
        for run in sweep.runs():
            try:
                reason = _unscored(run)
                if reason is None:
                    found.scored.append(_score(run, sweep.path.resolve().name if len(sweeps) > 1 else "", tasks))
            except (CoveyError, KeyError, TypeError, ValueError, AttributeError) as exc:
                reason = f"cannot be read ({type(exc).__name__}: {exc})"
            if reason is not None:
                found.missing.append(f"run {run} {reason}")
    return found


def _unscored(run: Path) -> str | None:
    """Why a run has no score; None if it has one."""
    if not is_trained(run):
        return "is not complete; start its sweep again"
    if not is_evaluated(run):
        return f"is not evaluated; covey evaluate {run} --keep"
    return None


def _score(run: Path, sweep: str, tasks: Sequence[Task]) -> Score:
    directory = RunDirectory(run)
    config = load_config(directory.config, stored=True)
    combination, evaluations = read_json(run / COMBINATION), read_json(directory.evaluations)
    result = read_json(directory.result)
    settings: dict[str, Any] = combination["settings"]
    name, arguments = config.environment.name, config.environment.evaluation_config
    task = task_of(tasks, name, arguments)
    words = [f"{k}={value_text(v)}" for k, v in settings.items() if not k.startswith("environment.")]
    told = [f"{k}={value_text(v)}" for k, v in settings.items() if k.startswith("environment.config.")]
    curve = [(float(g["env_steps"]), float(g["mean_return"])) for g in evaluations["generations"] if g["env_steps"]]
    return Score(
        run=run,
        label=" ".join([sweep, *words]).strip() or run.parent.resolve().name,
        seed=int(combination["seed"]),
        environment=task.title if task is not None else " ".join([name, *told]),
        task=task,
        score=float(evaluations["best"]["mean_return"]),
        episodes=int(evaluations["episodes"]),
        env_steps=result["env_steps"] / config.training.pop_size,
        wall_s=float(result["wall_s"]),
        curve=tuple(sorted(curve)),
    )
