"""`covey lineage --worth`: what mutations gained, by the files of runs and of sweeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.lineages import member

from covey.cli import run
from covey.run.files import write_json
from covey.run.reports import status_json
from covey.v1 import population_service_pb2 as pb

UP = ("rl_hp", "lr_actor 0.001 -> 0.0012")


def write_run(path: Path, dead: list[dict[str, Any]], living: list[dict[str, Any]] | None = None) -> Path:
    """The files of a complete run with these members."""
    path.mkdir(parents=True)
    write_json(path / "status.json", status_json(pb.Status(state="complete", run_name=path.name)))
    write_json(path / "living.json", {"members": living or []})
    (path / "lineage.jsonl").write_text("".join(json.dumps(m) + "\n" for m in dead))
    (path / "config.yaml").write_text("")
    return path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./runs with two runs, a and b, and a sweep of two others and one that has not begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    folder = Path("runs")
    write_run(folder / "a", [member(1, 0, 1, *UP, first=-17.0, parent=-20.0)])
    write_run(folder / "b", [], [member(1, 0, 1, *UP, first=-19.0, parent=-20.0, died_generation=None)])
    for seed, first in enumerate((-15.0, -16.0)):
        write_run(folder / "sweep" / f"seed={seed}", [member(1, 0, 1, *UP, first=first, parent=-20.0)])
    (folder / "sweep" / "seed=2").mkdir()
    (folder / "sweep" / "seed=2" / "config.yaml").touch()
    write_json(folder / "sweep" / "sweep.json", {})
    return folder


def gained(capsys: pytest.CaptureFixture[str], *names: str) -> tuple[int, float]:
    """How many children of all that are named were compared, and their mean gain."""
    assert run(["lineage", *names, "--worth", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (up,) = [kind for kind in answer["kinds"] if kind["change"] == "lr_actor up"]
    return up["compared"], up["gain"]["value"]


def test_runs_and_sweeps_are_taken_together(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gained(capsys, "a") == (1, 3.0)
    assert gained(capsys, "a", "runs/b") == (2, 2.0)
    assert gained(capsys, "sweep") == (2, 4.5)
    assert gained(capsys, "a", "b", "sweep") == (4, 3.25)
    assert gained(capsys, "a", "runs/a", "sweep", "sweep/seed=0") == (3, 4.0), "each run counts once"


def test_the_table_says_what_is_compared_and_what_is_too_little(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lineage", "sweep", "--worth"]) == 0
    out, err = capsys.readouterr()
    (line,) = [line for line in out.splitlines() if "lr_actor up" in line]
    assert line.split() == ["lr_actor", "up", "2", "2", "0", "+4.50", "+4.00", "to", "+5.00"]
    assert "unchanged parents" in out and "fewer than 3 children" in out
    assert "left out" in err and "seed=2 has not begun" in err


def test_enough_children_are_given_without_that_note(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "many", [member(i, 0, i, "none", first=-15.0, parent=-20.0) for i in range(1, 4)])
    assert run(["lineage", "many", "--worth"]) == 0
    assert "says next to nothing" not in capsys.readouterr().out


def test_runs_of_before_are_read_and_not_known(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = {k: v for k, v in member(1, 0, 1, *UP, first=-17.0).items() if not k.endswith("_fitness")}
    write_run(runs / "old", [old])
    assert run(["lineage", "old", "--worth"]) == 0
    out = capsys.readouterr().out
    assert "not known of 1 of 1 children" in out
    assert any(line.split()[:2] == ["rl_hp", "1"] and "not known" in line for line in out.splitlines())


def test_what_cannot_be_compared_is_one_sentence(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "young", [member(0, first=-30.0)])
    write_run(runs / "spoilt", [member(1, 0, 1, "none", first=-1.0) | {"fitness": "high"}])
    (runs / "empty").mkdir()
    write_json(runs / "empty" / "sweep.json", {})
    for names, words in (
        (["young"], "no member has a parent"),
        (["spoilt"], "does not know"),
        (["nowhere"], "no such directory"),
        (["empty"], "no run has begun"),
        (["a", "--learner", "localhost:1"], "both given"),
    ):
        assert run(["lineage", *names, "--worth"]) != 0
        err = capsys.readouterr().err
        assert words in err and "Traceback" not in err and len(err.strip().splitlines()) == 1


def test_several_runs_without_worth_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lineage", "a", "b"]) == 2
    assert "expected one; only --worth takes several" in capsys.readouterr().err
