"""Weights & Biases gets a run's curves, settings, result and best policy; a service that fails ends no run."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support import recorded_wandb

from covey.config import Config, parse_config
from covey.run.directory import RunDirectory
from covey_server.curves.points import Point
from covey_server.curves.services import IDS
from covey_server.curves.writer import CurveWriter

COMPLETE = {"state": "complete", "best_fitness": -12.5}


def config(**logging: Any) -> Config:
    logging = {"tensorboard": False, "csv": False, "wandb": True} | logging
    environment = {"name": "mpe2.simple_v3"}
    return parse_config(
        {"name": "job", "algorithm": {"name": "IPPO"}, "environment": environment, "training": {}, "logging": logging}
    )


def train(run: Path, config: Config, *env_steps: int) -> None:
    writer = CurveWriter(RunDirectory(run), config)
    writer.write([Point(1.0, steps, "learn/entropy", 0.5, None) for steps in env_steps])
    writer.close(COMPLETE)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name.startswith("covey")]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", recorded_wandb)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "job-20260101"
    path.mkdir()
    return path


@pytest.mark.usefixtures("wandb")
def test_wandb_has_the_numbers_settings_and_result_and_goes_on_after_a_resume(run: Path) -> None:
    for steps in (10, 20):
        train(run, config(), steps)
    calls = recorded_wandb.calls(run)
    assert [c["call"] for c in calls] == ["init", "define_metric", "log", "summary", "finish"] * 2
    begun = calls[0]
    settings = begun.pop("config")
    assert begun == {
        "call": "init",
        "project": "covey",
        "entity": None,
        "group": "job",
        "name": "job-20260101",
        "tags": ["IPPO", "mpe2.simple_v3"],
        "resume": "allow",
        "console": "off",
    }
    assert (settings["algorithm.name"], settings["training.seed"]) == ("IPPO", 0)
    assert [c for c in calls if c["call"] == "log"] == [
        {"call": "log", "learn/entropy": 0.5, "env_steps": steps} for steps in (10, 20)
    ]
    assert calls[3] == {"call": "summary", "result/state": "complete", "result/best_fitness": -12.5}


@pytest.mark.usefixtures("wandb")
def test_two_machines_that_start_in_the_same_second_are_two_runs(tmp_path: Path) -> None:
    names = []
    for machine in ("a", "b"):
        run = tmp_path / machine / "job-20260101"
        run.mkdir(parents=True)
        train(run, config(), 10)
        names.append(json.loads((run / IDS).read_text())["id"])
    assert names[0] != names[1]
    assert all(name.startswith("job-20260101-") for name in names)


@pytest.mark.usefixtures("wandb")
def test_the_best_policy_is_an_artifact(run: Path) -> None:
    (run / "best").mkdir()
    (run / "best" / "policy.json").write_text("{}")
    train(run, config(), 10)
    (artifact,) = [c for c in recorded_wandb.calls(run) if c["call"] == "log_artifact"]
    assert (artifact["type"], artifact["files"], artifact["metadata"]) == ("policy", ["policy.json"], COMPLETE)


@pytest.mark.usefixtures("wandb")
def test_project_group_and_tags_are_as_configured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "herds")
    train(run, config(tags=["wide"], group="ranges"))
    train(run, config(project="flocks"))
    first, second = (c for c in recorded_wandb.calls(run) if c["call"] == "init")
    assert (first["project"], first["group"], first["tags"][2:]) == ("herds", "ranges", ["wide"])
    assert second["project"] == "flocks"


@pytest.mark.parametrize("service", ["wandb", "mlflow", "trackio"])
def test_without_the_package_one_sentence_says_so_and_the_run_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, service: str
) -> None:
    monkeypatch.setitem(sys.modules, service, None)
    train(run, config(**{"wandb": False, service: True}), 1)
    assert warnings(caplog) == [
        f"logging.{service}: {service} is not installed (pip install 'covey-marl[{service}]'), so curves go to the run "
        "directory only"
    ]


@pytest.mark.usefixtures("wandb")
def test_a_service_that_cannot_start_is_one_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "job #1"  # no id that wandb takes
    run.mkdir()
    train(run, config(csv=True), 1)
    (said,) = warnings(caplog)
    assert said.startswith("logging.wandb: wandb cannot start (") and "\n" not in said
    assert len((run / "metrics.csv").read_text().splitlines()) == 2


@pytest.mark.usefixtures("wandb")
def test_a_service_that_fails_is_told_once_and_left(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: recorded_wandb.Run, data: dict[str, float]) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(recorded_wandb.Run, "log", refuse)
    train(run, config(csv=True), 1, 2, 3)
    assert warnings(caplog) == [
        "logging.wandb: failed (no route to host), so from here on curves go to the run directory only"
    ]
    assert len((run / "metrics.csv").read_text().splitlines()) == 4
