"""metrics.csv and TensorBoard of a run."""

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from covey.config import Logging
from covey.errors import StorageError
from covey_server.metrics import Metrics


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_long_and_a_resumed_run_appends(tmp_path: Path) -> None:
    logging = Logging(tensorboard=False)
    metrics = Metrics(tmp_path, logging)
    metrics.write(100, {"env_steps_per_s": 12.5, "replay": 100})
    metrics.flush()
    assert [(r["env_steps"], r["name"], float(r["value"])) for r in rows(tmp_path)] == [
        ("100", "env_steps_per_s", 12.5),
        ("100", "replay", 100.0),
    ]
    metrics.close()
    again = Metrics(tmp_path, logging, started_s=1000.0)
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
    with pytest.raises(StorageError, match=r"metrics.csv: cannot be written \(No space left on device\)"):
        metrics.close()


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        Metrics(tmp_path / "none", Logging(tensorboard=False))
