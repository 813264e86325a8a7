"""`--play AGENT=PATH`: agents are played by the policies of other runs and of exported folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.untrained_runs import speaker_listener, tictactoe, untrained_run

from covey.cli import run
from covey.run.directory import RunDirectory


@pytest.fixture
def here(tmp_path: Path) -> RunDirectory:
    return speaker_listener(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> RunDirectory:
    """A run of other members, in a folder as a sweep has them."""
    environment = {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": True}}
    (tmp_path / "sweep").mkdir()
    return untrained_run(tmp_path / "sweep" / "lr=1,seed=0", {"name": "MADDPG"}, environment, members=(8, 9))


def score(capsys: pytest.CaptureFixture[str], directory: RunDirectory, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["evaluate", str(directory.path), "--json", "--episodes", "5", *arguments]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_all_agents_played_by_another_run_score_what_it_scores(
    here: RunDirectory, there: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(there.path), "--out", str(tmp_path / "policies")]) == 0
    best = score(capsys, there)["per_agent"]
    assert best != score(capsys, here)["per_agent"]
    for where in (there.path, f"{there.path}:9", f"{there.path}:best", tmp_path / "policies"):
        found = score(capsys, here, *(f"--play={agent}={where}" for agent in best))
        assert found["per_agent"] == best, where
        assert found["play"] == dict.fromkeys(best, str(where))
    other = score(capsys, here, *(f"--play={agent}={there.path}:8" for agent in best))
    assert other["per_agent"] == score(capsys, there, "--member", "8")["per_agent"] != best


def test_one_agent_is_played_and_the_result_says_by_whom(
    here: RunDirectory, there: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(here.path), "--episodes", "2", "--play", f"listener_0={there.path}"]) == 0
    assert f"listener_0 (played by {there.path}): " in capsys.readouterr().out
    found = score(capsys, here, "--play", f"listener_0={there.path}")
    assert f"{there.path} as listener_0" in found["against"]


def test_games_are_played_against_other_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, yours = tictactoe(tmp_path / "mine"), tictactoe(tmp_path / "yours")
    result = score(capsys, mine, "--play", f"player_2={yours.path}")
    assert set(result["outcomes"]) == {"player_1", "player_2"}


@pytest.mark.parametrize(
    ("play", "code", "words"),
    [
        ("listener_0={tmp}/nowhere", 7, "nowhere does not exist"),
        ("listener_0={tmp}/empty", 7, "empty holds no config.yaml"),
        ("listener_0={there}:7", 2, "member 7 is not alive; alive: 8, 9"),
        ("listener_0={game}", 2, "no agent 'listener_0', expected one of player_1, player_2"),
        ("listener_0={discrete}", 4, "and decides Discrete"),
        ("listener_0=there", 2, "or a path with a slash in it"),
    ],
)
def test_others_who_cannot_play_are_refused(
    here: RunDirectory,
    there: RunDirectory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    play: str,
    code: int,
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path, "there": there.path, "game": tmp_path / "game", "discrete": tmp_path / "discrete"}
    if "{game}" in play:
        tictactoe(tmp_path / "game")
    if "{discrete}" in play:
        discrete = {"name": "mpe2.simple_speaker_listener_v4", "config": {"continuous_actions": False}}
        untrained_run(tmp_path / "discrete", {"name": "MADDPG"}, discrete)
    assert run(["evaluate", str(here.path), "--episodes", "1", "--play", play.format(**places)]) == code
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err, err
