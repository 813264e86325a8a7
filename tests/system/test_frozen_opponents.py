"""Runs whose members are evaluated against exported policies and those of other runs, with real processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.processes import covey, covey_json
from tests.support.untrained_runs import speaker_listener, tictactoe

GAME = "pettingzoo.classic.tictactoe_v3"


def job(folder: Path, opponents: dict[str, Any], environment: str = GAME) -> Path:
    """A configuration of a short run against opponents."""
    file = folder / "job.yaml"
    training = {"max_steps": 400, "evo_steps": 200, "pop_size": 2, "confirm_episodes": 4}
    sections = {"algorithm": {"name": "IPPO"}, "environment": {"name": environment}, "training": training}
    file.write_text(yaml.safe_dump(sections | {"fitness": {"opponents": opponents}}))
    return file


def test_a_run_is_evaluated_against_an_export_and_goes_on_without_its_folder(tmp_path: Path) -> None:
    other = tictactoe(tmp_path / "other")
    policies = tmp_path / "policies"
    assert covey("export", other.path, "--out", policies).returncode == 0
    result = covey_json("train", job(tmp_path, {"player_2": str(policies)}), "--runs", tmp_path / "runs", "--json")
    run = Path(result["run_dir"])
    assert result["state"] == "complete" and list(result["best_against"]) == [f"{policies}:best as player_2"]

    # The opponent is what it was, wherever it came from and whether that is still there.
    shutil.rmtree(policies)
    shutil.rmtree(other.path)
    more = covey_json("train", "--resume", run, "--set", "training.max_steps=600", "--json")
    assert more["state"] == "complete" and list(more["best_against"]) == list(result["best_against"])
    played = covey_json("evaluate", run, "--episodes", 4, "--json")
    (copy,) = (run / "opponents").iterdir()
    assert played["play"] == {"player_2": str(copy)}

    # Others may be named as a run is resumed, and are copied then.
    another = tictactoe(tmp_path / "another")
    opponents = json.dumps({"player_2": f"{another.path}:3"})
    arguments = ("--set", "training.max_steps=800", "--set", f"fitness.opponents={opponents}")
    last = covey_json("train", "--resume", run, *arguments, "--json")
    assert list(last["best_against"]) == [f"{another.path}:3 as player_2"]
    assert len(list((run / "opponents").iterdir())) == 2


@pytest.mark.parametrize("source", ["nowhere", "listener"])
def test_bad_paths_end_before_anything_begins(tmp_path: Path, source: str) -> None:
    speaker_listener(tmp_path / "listener")
    done = covey("train", job(tmp_path, {"player_2": str(tmp_path / source)}), "--runs", tmp_path / "runs")
    assert done.returncode in (2, 7) and not (tmp_path / "runs").exists()
    assert f"fitness.opponents.player_2: {tmp_path / source}:best" in done.stderr and "Traceback" not in done.stderr


def test_other_spaces_end_the_start_with_what_differs(tmp_path: Path) -> None:
    tictactoe(tmp_path / "other")  # its player_2 observes another board
    config = job(tmp_path, {"player_2": str(tmp_path / "other")}, "pettingzoo.classic.connect_four_v3")
    text = config.read_text().replace("player_2", "player_1")
    config.write_text(text)
    done = covey("train", config, "--runs", tmp_path / "runs")
    # Agents are called player_0 and player_1 there: this one plays in both.
    assert done.returncode == 4, done.stderr
    assert "fitness.opponents.player_1: " in done.stderr and "was trained for other spaces" in done.stderr
    assert "player_1 observes" in done.stderr and "Traceback" not in done.stderr
