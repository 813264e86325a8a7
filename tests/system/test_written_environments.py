"""`covey train` and what follows it in environments as people write them, with real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.support.processes import covey

HERE = "tests.support.written_environments"


def configuration(folder: Path, environment: str, algorithm: str, **fitness: object) -> Path:
    path = folder / "job.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "algorithm": {"name": algorithm},
                "environment": {"name": environment, "num_envs": 2},
                "training": {"max_steps": 128, "evo_steps": 64, "pop_size": 2, "confirm_episodes": 2},
                "actors": {"local": 1},
                "fitness": fitness,
            }
        )
    )
    return path


@pytest.mark.parametrize(
    ("name", "algorithm"), [("Ints", "MATD3"), ("Tuples", "IPPO"), ("Half", "MATD3"), ("Half", "IPPO")]
)
def test_it_trains_evaluates_and_exports(name: str, algorithm: str, tmp_path: Path) -> None:
    trained = covey("train", configuration(tmp_path, f"{HERE}:{name}", algorithm), "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["state"] == "complete" and result["env_steps"] == 256
    if name != "Half":
        assert set(result["best_per_agent"].values()) == {10.0}, "each agent earns 1 in each of ten steps"
    run = result["run_dir"]
    evaluated = json.loads(covey("evaluate", run, "--episodes", "3", "--json").stdout)
    assert evaluated["per_agent"].keys() == result["best_per_agent"].keys()
    assert covey("export", run, "--out", tmp_path / "policy").returncode == 0


@pytest.mark.parametrize("name", ["OldReset", "TeamReward", "Short", "TwoLines"])
def test_training_refuses_what_check_env_refuses_in_the_same_words(name: str, tmp_path: Path) -> None:
    checked = covey("check-env", f"{HERE}:{name}", "--json")
    [sentence] = json.loads(checked.stdout)["cannot"]
    assert checked.returncode == 4
    trained = covey("train", configuration(tmp_path, f"{HERE}:{name}", "IPPO"), "--runs", tmp_path, "--json")
    assert trained.stderr.strip() == f"covey: error: {sentence}" and trained.returncode in (3, 4)


def test_an_environment_that_takes_small_seeds_can_be_evaluated(tmp_path: Path) -> None:
    job = configuration(tmp_path, f"{HERE}:small_seeds_function", "IPPO")
    trained = covey("train", job, "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    evaluated = covey("evaluate", json.loads(trained.stdout)["run_dir"], "--episodes", "20", "--json")
    assert evaluated.returncode == 0 and json.loads(evaluated.stdout)["mean_return"] == 20.0, evaluated.stderr
