"""`covey train` and what follows it in environments as people write them, with real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.support.in_this_process import covey_here
from tests.support.processes import ENVIRONMENT, PATIENCE_S, covey, started

HERE = "tests.support.written_environments"

SAFE = {**ENVIRONMENT, "PYTHONSAFEPATH": "1"}


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
    evaluated = json.loads(covey_here("evaluate", run, "--episodes", "3", "--json").stdout)
    assert evaluated["per_agent"].keys() == result["best_per_agent"].keys()
    assert covey_here("export", run, "--out", tmp_path / "policy").returncode == 0


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("OldReset", "MATD3"),
        ("TeamReward", "IPPO"),
        ("VectorReward", "MADDPG"),
        ("Short", "IPPO"),
        ("NothingToSee", "MATD3"),
        ("EmptyName", "MATD3"),
        ("TwoLines", "IPPO"),
        ("LongName", "MADDPG"),
    ],
)
def test_training_refuses_what_check_env_refuses_in_the_same_words(name: str, algorithm: str, tmp_path: Path) -> None:
    checked = covey_here("check-env", f"{HERE}:{name}", "--json")
    sentence = json.loads(checked.stdout)["cannot"][0]
    assert checked.returncode == 4 and "Traceback" not in checked.stderr
    trained = covey("train", configuration(tmp_path, f"{HERE}:{name}", algorithm), "--runs", tmp_path, "--json")
    assert trained.stderr.strip() == f"covey: error: {sentence}" and trained.returncode in (3, 4)
    assert trained.stdout == "" and [p.name for p in tmp_path.iterdir()] == ["job.yaml"], "no run is left behind"


def test_an_environment_that_ignores_its_seed_trains_and_is_told_of(tmp_path: Path) -> None:
    told = "with the same seed and actions twice, the reward of agent 'a_0' differs after 1 env steps"
    checked = covey_here("check-env", f"{HERE}:Unseeded", "--json")
    assert checked.returncode == 0 and any(told in sentence for sentence in json.loads(checked.stdout)["will"])
    job = configuration(tmp_path, f"{HERE}:Unseeded", "IPPO")
    trained = covey("train", job, "--runs", tmp_path, "--json", "--deterministic")
    assert trained.returncode == 0 and "Traceback" not in trained.stderr, trained.stderr
    result = json.loads(trained.stdout)
    assert result["state"] == "complete" and result["env_steps"] == 256
    status = json.loads((Path(result["run_dir"]) / "status.json").read_text())
    assert any(told in event for event in status["events"]), status["events"]


def test_an_environment_that_takes_small_seeds_can_be_evaluated(tmp_path: Path) -> None:
    job = configuration(tmp_path, f"{HERE}:small_seeds_function", "IPPO")
    trained = covey("train", job, "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    evaluated = covey_here("evaluate", json.loads(trained.stdout)["run_dir"], "--episodes", "20", "--json")
    assert evaluated.returncode == 0 and json.loads(evaluated.stdout)["mean_return"] == 20.0, evaluated.stderr


TAG = """
import numpy as np
from neighbours import LENGTH
from tests.support.written_environments import Plain

class Tag(Plain):
    length = LENGTH

def parallel_env():
    return Tag()
"""


def covey_in(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, which Python does not search by itself: as the script `covey`, not `python -m`."""
    command = [sys.executable, "-m", "covey", *arguments]
    with started(command, environ=SAFE, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an environment of one's own, which imports its neighbour, and a configuration in another folder."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "tag.py").write_text(TAG)
    (own / "neighbours.py").write_text("LENGTH = 4\n")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "empty").mkdir()
    return own


@pytest.mark.parametrize("name", ["tag", "tag.py", "./tag.py:parallel_env", "tag:parallel_env"])
def test_the_current_folder_is_searched_and_the_run_remembers_it(name: str, folder: Path) -> None:
    assert covey_in(folder, "check-env", name, "--steps", "8").returncode == 0
    job = configuration(folder.parent / "jobs", name, "IPPO")
    trained = covey_in(folder, "train", job, "--runs", folder.parent / "runs", "--json")
    assert trained.returncode == 0, trained.stderr
    run = Path(json.loads(trained.stdout)["run_dir"])
    kept = json.loads((run / "environment.json").read_text())
    assert kept["file"] == str(folder / "tag.py") and kept["folder"] == str(folder) and len(kept["sha256"]) == 64
    evaluated = covey_in(folder.parent / "empty", "evaluate", run, "--episodes", "2", "--json")
    assert evaluated.returncode == 0 and json.loads(evaluated.stdout)["mean_return"] == 8.0, evaluated.stderr
    assert "changed" not in evaluated.stderr
    if name == "tag":
        (folder / "tag.py").write_text(TAG + "\n# another version\n")
        told = covey_in(folder.parent / "empty", "evaluate", run, "--episodes", "2")
        assert told.returncode == 0 and f"{folder / 'tag.py'} has changed since the run began" in told.stderr
        resumed = covey_in(folder.parent, "train", "--resume", run, "--set", "training.max_steps=192", "--json")
        assert resumed.returncode == 0 and json.loads(resumed.stdout)["env_steps"] == 384, resumed.stderr
        assert "has changed since the run began" in resumed.stderr


@pytest.mark.parametrize("name", ["tag", "./tag.py", "../own/tag.py"])
def test_the_configurations_folder_is_searched(name: str, folder: Path) -> None:
    job = configuration(folder, name, "IPPO")
    trained = covey_in(folder.parent / "empty", "train", job, "--runs", folder.parent / "runs", "--json")
    assert trained.returncode == 0, trained.stderr


def test_what_is_not_found_is_told_with_what_lies_here(folder: Path) -> None:
    (folder / "random.py").write_text(TAG)
    (folder / "my-tag.py").write_text(TAG)
    for name, says in [
        ("tagg", "no module 'tagg' is installed; did you mean tag, which lies in this folder?"),
        ("./tug.py", f"no such file, looked in {folder}"),
        ("./random.py", "Python finds another module 'random'"),
        ("./my-tag.py", "'my-tag' can be no module's name"),
    ]:
        found = covey_in(folder, "check-env", name)
        assert found.returncode == 3 and says in found.stderr and found.stderr.count("\n") == 1, found.stderr


def test_a_run_from_elsewhere_brings_no_code_along(folder: Path) -> None:
    job = configuration(folder, "tag", "IPPO")
    trained = covey_in(folder, "train", job, "--runs", folder.parent / "runs", "--json")
    run = Path(json.loads(trained.stdout)["run_dir"])
    (run / "tag.py").write_text("raise SystemExit('executed')")
    (folder / "tag.py").unlink()
    kept = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(kept | {"folder": str(run)}))
    evaluated = covey_in(folder.parent / "empty", "evaluate", run)
    assert evaluated.returncode == 3 and "no module 'tag' is installed" in evaluated.stderr


def test_an_actor_elsewhere_is_given_the_folder(folder: Path) -> None:
    job = configuration(folder, "tag", "IPPO")
    empty = folder.parent / "empty"
    learner = [sys.executable, "-m", "covey", "learner", job, "--bind", "127.0.0.1:0", "--runs", folder.parent / "runs"]
    with started(learner, environ=SAFE, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        address = next(line.split(" listens on ")[1].split(";")[0] for line in process.stderr if "listens on" in line)
        actor = ["actor", "--learner", address, "--allow-env", "tag"]
        refused = covey_in(empty, *actor)
        assert refused.returncode == 3 and "no module 'tag' is installed" in refused.stderr
        assert covey_in(folder, "actor", "--learner", address, "--env", "./tug.py").returncode == 3
        assert covey_in(empty, *actor, "--env-path", folder).returncode == 0
        assert process.wait() == 0
