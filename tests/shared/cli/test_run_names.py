"""RUN means the same in every command: a path, a name under ./runs, the beginning of one, or the newest run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.untrained_runs import speaker_listener
from typer.main import get_command

from covey.cli import build_app, run
from covey.cli.run_names import find_run

COMMANDS = {
    *("status", "members", "lineage", "actors", "watch", "pause", "resume", "checkpoint", "drain", "stop"),
    *("evaluate", "render", "export"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three runs under ./runs, of which job-12 is the newest."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for age, name in enumerate(["job-12", "job-1", "other-1"]):
        speaker_listener(tmp_path / "runs" / name)
        os.utime(tmp_path / "runs" / name, (10**9 - age, 10**9 - age))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("runs/job-1", "job-1"),
        ("job-1", "job-1"),  # a whole name counts before the beginning of another
        ("oth", "other-1"),
        ("runs/oth", "other-1"),
        ("./runs/other-1", "other-1"),
        ("job-12", "job-12"),
    ],
)
def test_a_run_is_found_by_path_name_and_beginning(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, found: str
) -> None:
    assert find_run(name) == Path("runs") / found
    assert find_run(str(folder / "runs" / found)) == folder / "runs" / found
    assert capsys.readouterr().err == ""


def test_every_command_that_takes_a_run_takes_it_by_this_rule() -> None:
    commands: dict[str, Any] = get_command(build_app()).commands  # type: ignore[attr-defined]
    helps = {
        name: {(p.metavar, p.help, p.required) for p in command.params if p.name == "run"}
        for name, command in commands.items()
    }
    # One that takes several says the same of each.
    (several,) = [p for p in commands["lineage"].params if p.name == "runs"]
    helps["lineage"] = {(several.metavar.removesuffix("..."), several.help, several.required)}
    taking = {name: found for name, found in helps.items() if found}
    assert taking.keys() == COMMANDS
    assert len(set.union(*taking.values())) == 1


def test_the_newest_run_is_taken_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--episodes", "1"]) == 0
    assert capsys.readouterr().err == "covey: the newest run is runs/job-12\n"
    assert run(["export"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "runs/job-12/policy-5/policy.json\n" and "newest run is runs/job-12" in captured.err
    assert run(["stop"]) == 5
    assert (
        "run runs/job-12: no learner trains it now; go on with covey train --resume runs/job-12"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["status", "jo"], 2, "run jo: 2 runs in runs begin like that: job-1, job-12; name one of them"),
        (["evaluate", "nothing"], 7, "run nothing: no such directory, and no run in runs begins like that"),
        (["render", "runs/x", "--out", "x.gif"], 7, "run runs/x: no such directory"),
        (
            ["resume", "oth"],
            5,
            "run runs/other-1: no learner trains it now; go on with covey train --resume runs/other-1 (covey learner",
        ),
        (["drain", "a1", "oth"], 5, "run runs/other-1: no learner trains it now"),
        (
            ["train", "--resume", "oth", "--seed", "9"],
            2,
            "training.seed: 9, expected 0, with which the run was trained",
        ),
        (["learner", "--resume", "jo"], 2, "begin like that: job-1, job-12"),
    ],
)
def test_what_is_not_one_run_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1, captured.err
    assert captured.out == ""
