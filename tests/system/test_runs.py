"""`covey runs`, `covey compare` and `covey rm` on runs that were really trained."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.support.processes import covey, covey_json, newest_run, processes, until, write_config

SMALL = {"max_steps": 120, "evo_steps": 60, "pop_size": 2, "confirm_episodes": 4}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs and a sweep of one."""
    folder = tmp_path_factory.mktemp("folder")
    config = write_config(folder / "job.yaml", training=SMALL)
    for name, settings in (("one", []), ("two", ["--set", "algorithm.lr_actor=0.002", "--set", "training.seed=7"])):
        done = covey("train", config, "--runs", folder / "runs", "--set", f"name={name}", *settings)
        assert done.returncode == 0, done.stderr
    done = covey("sweep", config, "--seeds", "4", "--runs", folder / "runs", "--episodes", "2")
    assert done.returncode == 0, done.stderr
    return folder / "runs"


def test_runs_are_listed_with_what_tells_them_apart(runs: Path) -> None:
    found = covey_json("runs", "--runs", runs, "--sort", "name", "--json")["runs"]
    assert [Path(run["run"]).name.split("-")[0] for run in found] == ["seed=4", "one", "two"]
    by_seed = {run["seed"]: run for run in found}
    assert {run["state"] for run in found} == {"complete"} and all(run["best_confirmed"] for run in found)
    assert by_seed[7]["differs"] == {"algorithm.lr_actor": 0.002}
    assert all(run["env_steps"] == 120 for run in found)
    text = covey("runs", "--runs", runs).stdout
    assert "lr_actor=0.002" in text and "job/seed=4" in text and "complete" in text


def test_they_are_sorted_and_chosen(runs: Path) -> None:
    best = covey_json("runs", "--runs", runs, "--sort", "best", "--json")["runs"]
    assert [run["best"] for run in best] == sorted((run["best"] for run in best), reverse=True)
    newest = covey_json("runs", "--runs", runs, "--json")["runs"]
    assert Path(newest[0]["run"]).name == "seed=4", "the newest first"
    for condition in ("algorithm.lr_actor=0.002", "training.seed=7", "name=two"):
        (only,) = covey_json("runs", "--runs", runs, "--where", condition, "--json")["runs"]
        assert only["seed"] == 7
    assert "no run in" in covey("runs", "--runs", runs, "--where", "state=stopped").stdout
    done = covey("runs", "--runs", runs, "--where", "state")
    assert done.returncode == 2 and "expected KEY=VALUE" in done.stderr
    done = covey("runs", "--runs", runs / "none")
    assert done.returncode != 0 and "no such directory" in done.stderr


def test_two_are_compared(runs: Path) -> None:
    one, two = (next(runs.glob(f"{name}-*")) for name in ("one", "two"))
    told = covey_json("compare", one, two, "--json")
    assert told["settings"]["algorithm.lr_actor"][1] == 0.002
    a, b = told["runs"]
    assert told["difference"]["value"] == pytest.approx(b["best"] - a["best"])
    error = (a["best_stderr"] ** 2 + b["best_stderr"] ** 2) ** 0.5
    assert told["difference"]["high"] == pytest.approx(b["best"] - a["best"] + 1.96 * error)
    text = covey("compare", one, two).stdout
    assert "algorithm.lr_actor" in text and "B - A:" in text and "covey sweep trains several" in text
    assert covey("compare", one, runs / "none").returncode != 0


def test_runs_are_deleted_when_that_is_meant_and_nobody_trains_them(runs: Path, tmp_path: Path) -> None:
    one = next(runs.glob("one-*"))
    refused = covey("rm", one)
    assert refused.returncode == 2 and "give --yes" in refused.stderr and one.is_dir()
    assert covey("rm", tmp_path, "--yes").returncode != 0 and tmp_path.is_dir(), "no run"
    done = covey("rm", one, runs / "job", "--yes")
    assert done.returncode == 0 and f"deleted {one}" in done.stdout, done.stderr
    assert not one.exists() and not (runs / "job").exists()

    config = write_config(tmp_path / "job.yaml", training=SMALL | {"max_steps": 100_000_000})
    with processes() as start:
        training = start(tmp_path / "log", "train", config, "--runs", tmp_path / "runs")
        until(lambda: list(tmp_path.glob("runs/*/status.json")), what="it trains")
        run = newest_run(tmp_path / "runs")
        assert covey_json("runs", "--runs", tmp_path / "runs", "--json")["runs"][0]["state"] == "training"
        refused = covey("rm", run, "--yes")
        assert refused.returncode == 2 and "is being trained" in refused.stderr and run.is_dir()
        training.popen.send_signal(signal.SIGKILL)
        training.popen.wait()
        assert covey_json("runs", "--runs", tmp_path / "runs", "--json")["runs"][0]["state"] == "dead"
        assert covey("rm", run, "--yes").returncode == 0 and not run.exists()
