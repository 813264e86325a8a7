"""`covey train` in an environment that can draw many episodes from one seed does so, but not in deterministic runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.support.processes import covey


@pytest.mark.parametrize("deterministic", [False, True])
def test_training_draws_episodes_together_unless_the_run_is_deterministic(deterministic: bool, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    job = tmp_path / "job.yaml"
    environment = {
        "name": "tests.support.drawn_together:drawn_together",
        "num_envs": 4,
        "config": {"notes": str(notes)},
    }
    training = {"max_steps": 128, "evo_steps": 64, "pop_size": 2, "confirm_episodes": 2}
    sections = {"algorithm": {"name": "MATD3"}, "environment": environment, "training": training}
    job.write_text(yaml.safe_dump({**sections, "actors": {"local": 1}}))
    flags = ["--deterministic"] if deterministic else []
    trained = covey("train", job, "--runs", tmp_path, "--json", *flags)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["env_steps"] == 256
    # With the four copies by which the environment is looked at before, nobody evaluates.
    noted = [line.split() for line in notes.read_text().splitlines()]
    lines = [words for copies, *words in noted if int(copies) > 4]
    joint = [words[2:] for words in lines if words[0] == "joint"]
    assert any(len(slots) == 4 for slots in joint) == bool(joint) == (not deterministic)
    # Slots 4 and up evaluate.
    exact = {int(word.partition("=")[0]) for words in lines if words[0] == "exact" for word in words[1:]}
    assert exact - {0, 1, 2, 3}, "evaluation slots take exact seeds"
