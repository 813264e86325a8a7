"""Sweeps as `covey sweep` leaves them, with scores that are given: enough for tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from covey.experiments.grid import Combination
from covey.experiments.sweep_directory import Plan, SweepDirectory
from covey.run.directory import RunDirectory

SPEAKER_LISTENER = {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": True}}

Curve = Sequence[tuple[int, float]]
"""Env steps of each member, and what the fittest one scored then."""


def scored_run(
    sweep: SweepDirectory, settings: Mapping[str, Any], seed: int, curve: Curve, environment: Mapping[str, Any]
) -> RunDirectory:
    """A complete run of two members, whose best policy scores what its curve ends with."""
    combination = Combination(tuple(settings.items()), seed)
    run = RunDirectory(sweep.run(combination.name))
    run.path.mkdir(parents=True)
    steps, score = curve[-1]
    training = {"pop_size": 2, "max_steps": steps, "seed": seed}
    run.config.write_text(
        yaml.safe_dump({"algorithm": {"name": "MATD3"}, "environment": dict(environment), "training": training})
    )
    (run.path / "combination.json").write_text(json.dumps({"settings": dict(settings), "seed": seed}))
    run.result.write_text(json.dumps({"state": "complete", "env_steps": 2 * steps, "wall_s": 10.0 + seed}))
    generations = [
        {"generation": i, "env_steps": s, "mean_return": value, "stderr": 1.0} for i, (s, value) in enumerate(curve)
    ]
    best = {"mean_return": score, "stderr": 1.0}
    run.evaluations.write_text(
        json.dumps({"episodes": 100, "seed": 0, "env_steps": 2 * steps, "best": best, "generations": generations})
    )
    return run


def scored_sweep(
    path: Path,
    scores: Mapping[str, Sequence[Curve]],
    key: str = "algorithm.lr_actor",
    environment: Mapping[str, Any] = SPEAKER_LISTENER,
) -> SweepDirectory:
    """A sweep of one key, with the curves of runs with seeds 0, 1, 2 ... by its values."""
    sweep = SweepDirectory(path)
    most = max(map(len, scores.values()))
    sweep.enter(Plan("job.yaml", {"training": {}}, {key: list(scores)}, list(range(most))))
    for value, curves in scores.items():
        for seed, curve in enumerate(curves):
            scored_run(sweep, {key: value}, seed, curve, environment)
    return sweep
