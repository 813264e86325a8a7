"""Whether evolution pays is measured by real sweeps: equal env steps, ranges that evolution and random search share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.evolution import METHODS, ROOT, TASKS, compared, settings

from covey.config import Config, load_config
from covey.experiments.grid import override, parse_values
from covey.experiments.scores import Score


def configured(task: str, method: str) -> Config:
    """The configuration of a method's runs, by the same words that the command line gets."""
    options = settings(TASKS[task], method, 50_000, 4)
    values = parse_values([override(key, value) for key, value in options.items()])
    assert all(len(found) == 1 for found in values.values()), "nothing is varied within a method"
    overrides = [override(key, found[0]) for key, found in values.items()]
    return load_config(ROOT / "examples" / TASKS[task].config, overrides)


@pytest.mark.parametrize("task", TASKS)
def test_methods_differ_in_nothing_but_what_is_compared(task: str) -> None:
    evolution, random, fixed = (configured(task, method) for method in METHODS)
    assert {c.training.max_steps for c in (evolution, random, fixed)} == {50_000}
    assert {c.training.pop_size for c in (evolution, random, fixed)} == {4}
    assert {c.training.confirm_episodes for c in (evolution, random, fixed)} == {evolution.training.confirm_episodes}
    assert evolution.training.evo_steps == 5_000
    # One generation, the last, which ends without selection.
    assert random.training.evo_steps == fixed.training.evo_steps == 50_000
    assert evolution.mutation == random.mutation and evolution.algorithm == random.algorithm
    assert evolution.mutation.draw_initial_rl_hp and not fixed.mutation.draw_initial_rl_hp
    assert not any(c.mutation.pre_training for c in (evolution, random, fixed))
    defaults = type(fixed.algorithm)(name=fixed.algorithm.name).initial_hyperparameters().numbers()
    values = fixed.algorithm.initial_hyperparameters().numbers()
    for name, (low, high) in TASKS[task].ranges.items():
        assert values[name] == defaults[name] and low <= values[name] <= high


def test_what_is_printed_says_how_probable_it_is_that_evolution_is_better() -> None:
    def scores(*values: float) -> list[Score]:
        return [Score(Path(), "", i, "", None, v, 9, 500.0, 1.0, ()) for i, v in enumerate(values)]

    line = compared("spread", {"evolution": scores(-1, -2, -3), "random": scores(-2, -4, -5), "fixed": scores(-9, -8)})
    assert line["evolution_better_than"]["random"]["value"] == pytest.approx(7.5 / 9)  # 3 + 2.5 + 2 of nine pairs
    assert line["evolution_better_than"]["fixed"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert line["iqm"]["evolution"]["value"] == -2 and line["runs"] == {"evolution": 3, "random": 3, "fixed": 2}


def test_it_trains_scores_and_compares_and_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "evolution.py"), "--tasks", "spread", "--runs", "1"]
    command += ["--steps", "400", "--members", "2", "--episodes", "4", "--jobs", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("method") for line in lines] == [*METHODS, None]
    assert lines[-1]["env_steps_per_member"] == [400.0], "each method got the same"
    generations = {m: json.loads((tmp_path / f"{m}_spread/seed=0/result.json").read_text()) for m in METHODS}
    assert {m: r["generations"] for m, r in generations.items()} == {"evolution": 10, "random": 1, "fixed": 1}
    members = {m: json.loads((tmp_path / f"{m}_spread/seed=0/members.json").read_text())["members"] for m in METHODS}
    rates = {m: {x["hyperparameters"]["lr"] for x in found} for m, found in members.items()}
    assert len(rates["random"]) == 2 and rates["fixed"] == {0.0001}
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("evaluations.json")}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stdout == done.stdout, again.stderr
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("evaluations.json")} == written
    # What a folder was made for is not mixed with something else.
    other = subprocess.run([*command, "--members", "3"], capture_output=True, text=True)
    assert other.returncode == 1 and "training.pop_size 2 -> 3" in other.stderr
