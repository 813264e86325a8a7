"""`covey train`, actors and what follows them in array environments as people write them, with real processes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.in_this_process import covey_here
from tests.support.processes import covey, covey_json, free_port, processes, until, write_config

from covey.errors import StalledError


def configuration(folder: Path, name: str, algorithm: str, **environment: Any) -> Path:
    return write_config(
        folder / "job.yaml",
        algorithm={"name": algorithm},
        environment={"name": name, "config": {}, **environment},
        training={"max_steps": 128, "evo_steps": 64, "pop_size": 2, "confirm_episodes": 2},
        actors={"local": 1},
    )


@pytest.mark.parametrize(("name", "algorithm"), [("Plain", "IPPO"), ("Choices", "MATD3"), ("Turns", "MADDPG")])
def test_it_trains_and_evaluates(name: str, algorithm: str, tmp_path: Path) -> None:
    job = configuration(tmp_path, f"tests.support.written_batches:{name}", algorithm)
    result = covey_json("train", job, "--runs", tmp_path, "--json")
    assert result["state"] == "complete" and set(result["best_per_agent"].values()) == {10.0}
    evaluated = covey_json("evaluate", result["run_dir"], "--episodes", "5", "--json")
    assert evaluated["per_agent"] == {"a_0": 10.0, "a_1": 10.0}


@pytest.mark.parametrize("vectorisation", ["sync", "async"])
def test_one_that_hangs_ends_its_actor_whatever_the_vectorisation(vectorisation: str, tmp_path: Path) -> None:
    entry_point = "tests.support.written_batches:Hangs"
    job = configuration(tmp_path, entry_point, "IPPO")
    settings = [f"--set=actors.{key}" for key in (f"vectorisation={vectorisation}", "step_timeout_s=1.5")]
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        start(tmp_path / "learner.log", "learner", job, "--bind", address, "--runs", tmp_path / "runs", *settings)
        until(lambda: list((tmp_path / "runs").glob("*/address.json")), what="it serves")
        actor = covey("actor", "--learner", address, "--allow-env", entry_point)
    assert actor.returncode == StalledError.exit_code and entry_point in actor.stderr, actor.stderr


def test_the_example_of_the_page_trains(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "array_environments.md").read_text()
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    (tmp_path / "meeting_arrays.py").write_text(blocks["python"])
    job = tmp_path / "meeting_arrays.yaml"
    job.write_text(blocks["yaml"])
    small = [f"--set=training.{key}" for key in ("max_steps=2000", "evo_steps=1000", "pop_size=2")]
    result = covey_json("train", job, "--runs", tmp_path / "runs", "--json", *small)
    assert result["state"] == "complete" and result["env_steps"] == 4000 and result["updates"] > 0


@pytest.mark.parametrize("name", ["OtherDtype", "StepReward", "ResetsItself"])
def test_check_env_and_train_refuse_it_by_the_same_sentence(name: str, tmp_path: Path) -> None:
    entry_point = f"tests.support.broken_batches:{name}"
    checked = covey_here("check-env", entry_point, "--json")
    (sentence,) = json.loads(checked.stdout)["cannot"]
    assert checked.returncode == 4 and "Traceback" not in checked.stderr
    trained = covey("train", configuration(tmp_path, entry_point, "IPPO"), "--runs", tmp_path, "--json")
    assert trained.stderr.strip() == f"covey: error: {sentence}" and trained.returncode == 3
    assert trained.stdout == "" and [p.name for p in tmp_path.iterdir()] == ["job.yaml"], "no run is left behind"


@pytest.mark.parametrize("name", ["OtherShape", "ReturnsNothing"])
def test_an_actor_refuses_it_by_the_same_sentence(name: str, tmp_path: Path) -> None:
    entry_point = f"tests.support.broken_batches:{name}"
    (sentence,) = json.loads(covey_here("check-env", entry_point, "--json").stdout)["cannot"]
    address = f"127.0.0.1:{free_port()}"
    job = configuration(tmp_path, entry_point, "IPPO", spaces_from="actor")
    with processes() as start:
        start(tmp_path / "learner.log", "learner", job, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: list((tmp_path / "runs").glob("*/address.json")), what="it serves")
        actor = covey("actor", "--learner", address, "--allow-env", entry_point)
    assert actor.returncode == 3 and f"covey actor: {sentence}" in actor.stderr and "Traceback" not in actor.stderr
