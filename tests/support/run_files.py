"""Runs of which only the files are there that lists, comparisons and pictures read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from covey.run.files import write_json

CONFIG = {
    "name": "job",
    "algorithm": {"name": "MATD3", "lr_actor": 0.001},
    "environment": {"name": "mpe2.simple_spread_v3", "config": {}},
    "training": {"seed": 3, "max_steps": 1000},
}
STATUS = {"state": "complete", "population_size": 2, "env_steps": 2000, "max_steps": 1000, "best_fitness": -5.0}
RESULT = {"best_fitness": -4.0, "best_fitness_stderr": 0.5, "best_confirmed": True, "wall_s": 12.5}


def run_files(path: Path, config: Any = CONFIG, status: Any = STATUS, result: Any = RESULT) -> Path:
    path.mkdir(parents=True)
    (path / "journal").mkdir()
    (path / "config.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    for name, content in (("status", status), ("result", result)):
        if content is not None:
            write_json(path / f"{name}.json", content)
    return path


def write_curves(run: Path, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Write a run's curves: by name (env steps of all members, value)."""
    rows = [f"1.0,{steps},{name},{value}," for name, points in curves.items() for steps, value in points]
    (run / "metrics.csv").write_text("\n".join(["wall_s,env_steps,name,value,member_id", *rows, ""]))
