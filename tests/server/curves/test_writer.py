"""metrics.csv and TensorBoard: what the points of a run's curves become."""

import csv
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from covey.config import Config, parse_config
from covey.errors import DiskFullError, StorageError
from covey.run.directory import RunDirectory
from covey_server.curves.points import Point
from covey_server.curves.writer import CurveWriter

RESULT: dict[str, Any] = {"best_fitness": None}


def config(**logging: Any) -> Config:
    return parse_config(
        {"algorithm": {"name": "IPPO"}, "environment": {"name": "mpe2.simple_v3"}, "training": {}, "logging": logging}
    )


def points(
    env_steps: int, values: Mapping[str, float], wall_s: float = 1.0, member_id: int | None = None
) -> list[Point]:
    return [Point(wall_s, env_steps, name, value, member_id) for name, value in values.items()]


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_long_and_a_resumed_run_appends(tmp_path: Path) -> None:
    writer = CurveWriter(RunDirectory(tmp_path), config(tensorboard=False))
    writer.write(points(100, {"learn/entropy": 12.5}) + points(100, {"place_1/fitness": 7}, 2.5, member_id=31))
    writer.flush()
    assert rows(tmp_path) == [
        {"wall_s": "1.0", "env_steps": "100", "name": "learn/entropy", "value": "12.5", "member_id": ""},
        {"wall_s": "2.5", "env_steps": "100", "name": "place_1/fitness", "value": "7", "member_id": "31"},
    ]
    writer.close(RESULT)
    again = CurveWriter(RunDirectory(tmp_path), config(tensorboard=False))
    again.write(points(200, {"fitness/best": -3.0}, 1000.0))
    again.close(RESULT)
    last = rows(tmp_path)[-1]
    assert (last["wall_s"], last["env_steps"], last["name"]) == ("1000.0", "200", "fitness/best")
    assert not (tmp_path / "tensorboard").exists()


def test_a_file_from_before_there_were_members_in_it_goes_on_as_it_began(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("wall_s,env_steps,name,value\r\n1.0,100,updates,3\r\n")
    writer = CurveWriter(RunDirectory(tmp_path), config(tensorboard=False))
    writer.write(points(200, {"place_0/fitness": 4.0}, member_id=2))
    writer.close(RESULT)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == [
        "1.0,100,updates,3",
        "1.0,200,place_0/fitness,4.0",
    ]


def events_of(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return events


def test_tensorboard_has_the_same_numbers_and_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("algorithm:\n  name: IPPO\n")
    writer = CurveWriter(RunDirectory(tmp_path), config(csv=False))
    writer.write(points(10, {"learn/critic_loss": 0.5}))
    writer.write(points(20, {"learn/critic_loss": 0.25}))
    writer.close(RESULT)
    events = events_of(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("learn/critic_loss")] == [(10, 0.5), (20, 0.25)]
    (text,) = events.Tensors("configuration/text_summary")
    assert text.tensor_proto.string_val == [b"    algorithm:\n      name: IPPO\n"]
    assert not (tmp_path / "metrics.csv").exists()


def test_tensorboard_compares_runs_by_settings_and_result(tmp_path: Path) -> None:
    writer = CurveWriter(RunDirectory(tmp_path), config(csv=False))
    writer.close({"best_fitness": -12.5})
    events = events_of(tmp_path)
    assert [e.value for e in events.Scalars("hparams/fitness")] == [-12.5]
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    writer = CurveWriter(RunDirectory(tmp_path), config(tensorboard=False))
    writer.write(points(1, {"a": 1.0}))
    with pytest.raises(StorageError, match=r"metrics.csv cannot be written \(No space left on device\)"):
        writer.close(RESULT)


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        CurveWriter(RunDirectory(tmp_path / "none"), config(tensorboard=False))


def test_after_a_full_disk_curves_go_on_behind_the_last_whole_row(tmp_path: Path) -> None:
    writer = CurveWriter(RunDirectory(tmp_path), config(tensorboard=False))
    writer.write(points(1, {"a": 1.0}))
    writer.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80, hard))
    try:
        for _ in range(2):
            with pytest.raises(DiskFullError, match=r"metrics\.csv cannot be written \(File too large\); make room"):
                writer.write(points(2, {f"lost{i}": 1.0 for i in range(1000)}))
                writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    writer.write(points(3, {"b": 1.0}))
    writer.close(RESULT)
    assert [(row["env_steps"], row["name"], row["value"]) for row in rows(tmp_path)] == [
        ("1", "a", "1.0"),
        ("3", "b", "1.0"),
    ]
