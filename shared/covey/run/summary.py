"""What runs are, in a line each: their state, what they train, and what came of it, from their files."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covey.config.dotted import dotted
from covey.config.yaml_text import read_yaml
from covey.errors import CoveyError
from covey.run import SWEEP
from covey.run.directory import RunDirectory
from covey.run.files import directories, read_json
from covey.run.reports import ENDED

OWN = ("name", "training.seed", "learner.", "logging.", "checkpoint.", "actors.")
"""Beginnings of keys in which runs differ without training anything else."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as its files tell it; None where they do not.

    Attributes:
        path: Its directory.
        state: As its learner wrote it; "dead" if that had not ended the run and is gone, "damaged" if it cannot be
            read, "not begun" if there is a configuration alone.
        algorithm: Such as "MATD3".
        environment: Its entry point.
        seed: `training.seed`.
        members: Members of its population.
        env_steps: Of each member, on average.
        max_steps: Env steps of each member at which it is complete.
        best: Fitness of its best member: confirmed in fresh episodes, or as evaluated last.
        best_stderr: Its standard error.
        best_confirmed: Whether it was confirmed.
        wall_s: Seconds of training.
        written_s: Unix time at which its files were written last.
        settings: Its configuration by dotted key.
        fault: Why it is damaged.
    """

    path: Path
    state: str
    algorithm: str | None = None
    environment: str | None = None
    seed: int | None = None
    members: int | None = None
    env_steps: float | None = None
    max_steps: int | None = None
    best: float | None = None
    best_stderr: float | None = None
    best_confirmed: bool = False
    wall_s: float | None = None
    written_s: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the settings as a JSON object."""
        told = {name: getattr(self, name) for name in self.__slots__ if name not in ("path", "settings")}
        return {"run": str(self.path), **told}


def runs_in(folder: Path) -> list[Path]:
    """Directories of the runs in a folder, and of those in its sweeps, by name; none if there is no such folder."""
    found = []
    for path in directories(folder):
        inner = directories(path) if (path / SWEEP).is_file() else [path]
        found += [run for run in inner if (run / "config.yaml").is_file()]
    return found


def summarise(path: Path) -> RunSummary:
    """Read what a run's files tell of it; what cannot be read is said in `fault`."""
    run = RunDirectory(path)
    try:
        settings = dict(dotted(read_yaml(run.config, f"configuration {run.config}")))
    except CoveyError as exc:
        return RunSummary(path, "damaged", fault=str(exc))
    told: dict[str, Any] = {
        "algorithm": settings.get("algorithm.name"),
        "environment": settings.get("environment.name"),
        "seed": settings.get("training.seed"),
        "max_steps": settings.get("training.max_steps"),
        "settings": settings,
    }
    if not run.status.exists():
        return RunSummary(path, "training" if is_trained_now(path) else "not begun", **told)
    try:
        status = read_json(run.status)
        result = read_json(run.result) if run.result.exists() else {}
        told["written_s"] = run.status.stat().st_mtime
        state = status["state"]
        if state not in ENDED and not is_trained_now(path):
            state = "dead"
        told |= {
            "members": status["population_size"],
            "env_steps": status["env_steps"] / max(1, status["population_size"]),
            "max_steps": status["max_steps"],
            "best": result.get("best_fitness", status["best_fitness"]),
            "best_stderr": result.get("best_fitness_stderr"),
            "best_confirmed": bool(result.get("best_confirmed")),
            "wall_s": result.get("wall_s"),
        }
    except (CoveyError, OSError, KeyError, TypeError, AttributeError) as exc:
        why = str(exc) if isinstance(exc, CoveyError) else f"{run.status}: {type(exc).__name__} {exc}"
        return RunSummary(path, "damaged", **told, fault=why)
    return RunSummary(path, state, **told)


def differences(found: Sequence[RunSummary]) -> dict[Path, dict[str, Any]]:
    """By run the settings in which runs of one algorithm and environment differ, with the run's values."""
    alike: dict[tuple[str | None, str | None], list[RunSummary]] = {}
    for run in found:
        alike.setdefault((run.algorithm, run.environment), []).append(run)
    result: dict[Path, dict[str, Any]] = {}
    for several in alike.values():
        keys = {key for run in several for key in run.settings if not key.startswith(OWN)}
        varied = [key for key in sorted(keys) if len({repr(run.settings.get(key)) for run in several}) > 1]
        for run in several:
            result[run.path] = {key: run.settings.get(key) for key in varied}
    return result


def is_trained_now(path: Path) -> bool:
    """Whether a learner of this machine works on a run: it holds a lock on the run's journal."""
    try:
        fd = os.open(RunDirectory(path).journal, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def fitness_curve(summary: RunSummary) -> list[tuple[float, float]]:
    """(env steps of each member, best fitness) whenever that had changed; a complete run's last is the confirmed one.

    Raises:
        StorageError: they cannot be read.
    """
    from covey.run.curves import read_curves  # imports numpy, which a list of runs does without

    curves = read_curves(RunDirectory(summary.path))
    found: list[tuple[float, float]] = []
    for name in ("fitness/best", "fitness/confirmed"):
        if name in curves:
            for steps, value in zip(curves[name].env_steps.tolist(), curves[name].values.tolist(), strict=True):
                if not found or found[-1][1] != value:
                    found.append((steps / max(1, summary.members or 1), value))
    return found


def age_s(summary: RunSummary) -> float | None:
    """Seconds since a run's files were written."""
    return None if summary.written_s is None else max(0.0, time.time() - summary.written_s)
