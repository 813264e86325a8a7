"""What a run says of the file that its environment is in, read from a run that may be somebody else's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from covey.config import Config, parse_config
from covey.envs.own_modules import search, searched
from covey.errors import StorageError
from covey.run.directory import RunDirectory
from covey.run.own_environment import recall_environment, remember_environment


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("covey.envs.own_modules._searched", [])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def config() -> Config:
    return parse_config({"algorithm": {"name": "MATD3"}, "environment": {"name": "own_game"}, "training": {}})


def says(run: RunDirectory, **changes: Any) -> None:
    """Let the run say which file its environment is in."""
    kept = {"file": "own_game.py", "folder": str(run.path.parent / "games"), "sha256": "0" * 64}
    run.environment.write_text(json.dumps(kept | changes))


def test_the_folder_that_a_run_names_is_searched(run: RunDirectory) -> None:
    says(run)
    recall_environment(run, config())
    assert searched() == (run.path.parent / "games", Path.cwd())


@pytest.mark.parametrize("inside", ["", "games", "checkpoints/../games"])
def test_a_folder_that_a_run_brings_along_is_not_searched(run: RunDirectory, inside: str) -> None:
    says(run, folder=str(run.path / inside))
    recall_environment(run, config())
    assert searched() == (Path.cwd(),)


def test_the_folders_of_networks_are_searched_too(run: RunDirectory) -> None:
    own, brought = str(run.path.parent / "networks"), str(run.path / "networks")
    run.environment.write_text(json.dumps({"modules": [own, brought]}))
    recall_environment(run, config())
    assert searched() == (run.path.parent / "networks", Path.cwd())
    says(run, modules=[own])
    recall_environment(run, config())
    assert searched() == (run.path.parent / "networks", Path.cwd(), run.path.parent / "games")
    says(run, modules=["networks"])
    with pytest.raises(StorageError, match="expected an absolute path"):
        recall_environment(run, config())


def test_a_run_keeps_where_its_networks_were_found(run: RunDirectory) -> None:
    folder = run.path.parent / "mine"
    folder.mkdir()
    (folder / "networks_of_mine.py").write_text("")
    search(folder)
    own = parse_config(
        {
            "algorithm": {"name": "MATD3"},
            "environment": {"name": "mpe2.simple_v3"},
            "training": {},
            "network": {"encoder_config": {"module": "networks_of_mine:make"}},
        }
    )
    remember_environment(run, own)
    assert json.loads(run.environment.read_text()) == {"modules": [str(folder)]}
    recall_environment(run, own)
    assert searched() == (folder, Path.cwd())


@pytest.mark.parametrize("folder", ["..", ".", "run/games", ""])
def test_a_folder_that_depends_on_where_one_stands_is_refused(run: RunDirectory, folder: str) -> None:
    says(run, folder=folder)
    with pytest.raises(StorageError, match=r"environment.json is not what a run holds .*expected an absolute path"):
        recall_environment(run, config())
    assert searched() == ()


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"folder": 7, "sha256": ""}', '{"modules": 3}', '{"modules": [3]}'])
def test_what_is_no_such_file_is_refused(run: RunDirectory, text: str) -> None:
    run.environment.write_text(text)
    with pytest.raises(StorageError, match="is not what a run holds"):
        recall_environment(run, config())
