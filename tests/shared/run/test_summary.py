"""What runs are, by their files: complete ones, dead ones, those at work, and damaged ones."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from tests.support.run_files import STATUS, run_files

from covey.run import SWEEP
from covey.run.files import write_json
from covey.run.summary import fitness_curve, is_trained_now, runs_in, summarise


def test_a_complete_run(tmp_path: Path) -> None:
    run = summarise(run_files(tmp_path / "a"))
    assert (run.state, run.algorithm, run.environment, run.seed) == ("complete", "MATD3", "mpe2.simple_spread_v3", 3)
    assert (run.members, run.env_steps, run.max_steps) == (2, 1000, 1000)
    assert (run.best, run.best_stderr, run.best_confirmed, run.wall_s) == (-4.0, 0.5, True, 12.5)
    assert run.settings["algorithm.lr_actor"] == 0.001 and run.settings["environment.config"] == {}
    assert run.to_json()["run"] == str(tmp_path / "a") and "settings" not in run.to_json()


def test_who_trains_it_now_is_told_by_the_lock(tmp_path: Path) -> None:
    path = run_files(tmp_path / "a", status=STATUS | {"state": "training"}, result=None)
    assert summarise(path).state == "dead"
    fd = os.open(path / "journal", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert is_trained_now(path) and summarise(path).state == "training"
    os.close(fd)
    assert not is_trained_now(path) and not is_trained_now(tmp_path / "none")
    assert (summarise(path).best, summarise(path).best_confirmed) == (-5.0, False)


@pytest.mark.parametrize("damage", ["config.yaml", "status.json", "status without keys", "result.json"])
def test_what_could_be_read_of_a_damaged_run_is_told(tmp_path: Path, damage: str) -> None:
    path = run_files(tmp_path / "a")
    if damage == "status without keys":
        write_json(path / "status.json", {"state": "complete"})
    else:
        (path / damage).write_text("{")
    run = summarise(path)
    assert run.state == "damaged" and run.fault is not None and str(path) in run.fault
    assert (run.algorithm is None) == (damage == "config.yaml")


def test_runs_of_sweeps_are_found_and_other_folders_are_not(tmp_path: Path) -> None:
    run_files(tmp_path / "b")
    run_files(tmp_path / "sweep" / "seed=0")
    write_json(tmp_path / "sweep" / SWEEP, {})
    (tmp_path / "other").mkdir()
    run_files(tmp_path / "no sweep" / "c")
    assert [str(p.relative_to(tmp_path)) for p in runs_in(tmp_path)] == ["b", "sweep/seed=0"]
    assert runs_in(tmp_path / "none") == []
    assert summarise(run_files(tmp_path / "d", status=None, result=None)).state == "not begun"


def test_the_curve_is_of_each_members_steps(tmp_path: Path) -> None:
    path = run_files(tmp_path / "a")
    assert fitness_curve(summarise(path)) == []
    rows = [
        "1.0,200,fitness/best,-9.0",
        "2.0,400,updates,3.0",
        "2.0,400,fitness/best,-9.0",
        "3.0,2000,fitness/best,-5.0",
        "3.0,2000,fitness/best/agent_0,-2.0",
    ]
    (path / "metrics.csv").write_text("\n".join(["wall_s,env_steps,name,value", *rows, ""]))
    assert fitness_curve(summarise(path)) == [(100.0, -9.0), (1000.0, -5.0)]
    rows = [f"{row}," for row in [*rows, "3.5,2000,fitness/confirmed,-5.5"]]
    (path / "metrics.csv").write_text("\n".join(["wall_s,env_steps,name,value,member_id", *rows, ""]))
    assert fitness_curve(summarise(path)) == [(100.0, -9.0), (1000.0, -5.0), (1000.0, -5.5)]
