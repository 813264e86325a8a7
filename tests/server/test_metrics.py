"""metrics.csv, TensorBoard and Weights & Biases of a run."""

import csv
import logging
import resource
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tests.support import recorded_wandb

from covey.config import Logging
from covey.errors import DiskFullError, StorageError
from covey_server.metrics import Metrics


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_long_and_a_resumed_run_appends(tmp_path: Path) -> None:
    config = Logging(tensorboard=False)
    metrics = Metrics(tmp_path, config)
    metrics.write(100, {"env_steps_per_s": 12.5, "replay": 100})
    metrics.flush()
    assert [(r["env_steps"], r["name"], float(r["value"])) for r in rows(tmp_path)] == [
        ("100", "env_steps_per_s", 12.5),
        ("100", "replay", 100.0),
    ]
    metrics.close()
    again = Metrics(tmp_path, config, started_s=1000.0)
    again.write(200, {"best_fitness": -3.0})
    again.close()
    last = rows(tmp_path)[-1]
    assert (last["env_steps"], last["name"]) == ("200", "best_fitness")
    assert float(last["wall_s"]) >= 1000
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, Logging(csv=False))
    metrics.write(10, {"loss/critic": 0.5})
    metrics.write(20, {"loss/critic": 0.25})
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/critic")] == [(10, 0.5), (20, 0.25)]
    assert not (tmp_path / "metrics.csv").exists()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    metrics = Metrics(tmp_path, Logging(tensorboard=False))
    metrics.write(1, {"a": 1.0})
    with pytest.raises(StorageError, match=r"metrics.csv cannot be written \(No space left on device\)"):
        metrics.close()


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        Metrics(tmp_path / "none", Logging(tensorboard=False))


def test_wandb_has_the_same_numbers_and_goes_on_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", recorded_wandb)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    run = tmp_path / "job-20260101"
    run.mkdir()
    started = [
        {"call": "init", "project": "covey", "name": "job-20260101", "resume": "allow", "console": "off"},
        {"call": "define_metric", "name": "*", "step_metric": "env_steps"},
    ]
    expected = []
    for env_steps in (10, 20):
        metrics = Metrics(run, Logging(tensorboard=False, wandb=True))
        metrics.write(env_steps, {"loss/critic": 0.5})
        metrics.close()
        expected += [*started, {"call": "log", "loss/critic": 0.5, "env_steps": env_steps}, {"call": "finish"}]
    assert recorded_wandb.calls(run) == expected
    assert [r["name"] for r in rows(run)] == ["loss/critic"] * 2


def test_the_project_at_wandb_is_what_its_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", recorded_wandb)
    monkeypatch.setenv("WANDB_PROJECT", "herds")
    Metrics(tmp_path, Logging(tensorboard=False, wandb=True)).close()
    assert recorded_wandb.calls(tmp_path)[0]["project"] == "herds"


def test_without_wandb_one_sentence_says_so_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    metrics = Metrics(tmp_path, Logging(tensorboard=False, wandb=True))
    metrics.write(1, {"a": 1.0})
    metrics.close()
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said == (
        "logging.wandb: wandb is not installed, so metrics go to the run directory only; "
        "pip install 'covey-marl[wandb]'"
    )
    assert len(rows(tmp_path)) == 1


def test_a_wandb_that_cannot_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", recorded_wandb)
    run = tmp_path / "job #1"  # no id that wandb takes
    run.mkdir()
    metrics = Metrics(run, Logging(tensorboard=False, wandb=True))
    metrics.write(1, {"a": 1.0})
    metrics.close()
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name.startswith("covey")]
    assert said.startswith("logging.wandb: wandb cannot start (") and "\n" not in said
    assert len(rows(run)) == 1


def test_after_a_full_disk_curves_go_on_behind_the_last_whole_row(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, Logging(tensorboard=False))
    metrics.write(1, {"a": 1.0})
    metrics.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        for _ in range(2):
            with pytest.raises(DiskFullError, match=r"metrics\.csv cannot be written \(File too large\); make room"):
                metrics.write(2, {f"lost{i}": 1.0 for i in range(1000)})
                metrics.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    metrics.write(3, {"b": 1.0})
    metrics.close()
    assert [(row["env_steps"], row["name"], row["value"]) for row in rows(tmp_path)] == [
        ("1", "a", "1.0"),
        ("3", "b", "1.0"),
    ]
