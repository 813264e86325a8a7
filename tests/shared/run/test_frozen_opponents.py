"""Opponents that `fitness.opponents` names by path: found, copied into the run, and refused where they cannot play."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.untrained_runs import speaker_listener, tictactoe

from covey.cli import run as command
from covey.config import Config, parse_config
from covey.errors import ConfigError, SpaceError, StorageError
from covey.experiments.grid import Combination
from covey.experiments.prepared import Prepared
from covey.run.directory import RunDirectory
from covey.run.frozen_opponents import (
    check_sources,
    check_spaces,
    keep_opponents,
    kept_opponent,
    read_opponents,
    with_absolute_opponents,
)
from covey.run.new_run import new_run
from covey.run.trained import TrainedMember
from covey.spaces import Discrete


def configured(**opponents: str | int) -> Config:
    """A run of tictactoe against these opponents, as its start has it."""
    return with_absolute_opponents(
        parse_config(
            {
                "algorithm": {"name": "IPPO"},
                "environment": {"name": "pettingzoo.classic.tictactoe_v3"},
                "fitness": {"opponents": opponents},
                "training": {},
            }
        )
    )


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run with the members 3 and 5, of which 5 is the best, and its export in ./policies."""
    monkeypatch.chdir(tmp_path)
    found = tictactoe(tmp_path / "other")
    assert command(["export", str(found.path), "--out", "policies"]) == 0
    return found


@pytest.mark.parametrize(
    ("source", "member"), [("./other", 5), ("./other:best", 5), ("./other:3", 3), ("./policies", 5)]
)
def test_policies_of_a_run_or_an_export_are_kept_and_outlive_their_source(
    other: RunDirectory, tmp_path: Path, source: str, member: int
) -> None:
    config = configured(player_2=source, player_1="random")
    (file,) = TrainedMember.read(other, member).files.values()  # one network plays both
    run = new_run(config, tmp_path / "runs")
    shutil.rmtree(other.path)
    shutil.rmtree(tmp_path / "policies")
    found = read_opponents(run, config)
    assert list(found) == ["player_2"] and found["player_2"].file == file
    keep_opponents(run, config)  # as the run is resumed: what is kept is not read again
    assert read_opponents(run, with_absolute_opponents(config)) == found
    assert [p.name for p in run.opponents.iterdir()] == [kept_opponent(run, str(found["player_2"].source)).name]


def test_paths_are_absolute_as_the_run_may_go_on_elsewhere(
    other: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(player_2="./other:3")
    assert config.fitness.opponents == {"player_2": f"{other.path}:3"}
    run = new_run(config, tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert with_absolute_opponents(config) == config and read_opponents(run, config)


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("./nowhere", StorageError, "nowhere:best does not exist, expected the directory of a run or a folder"),
        ("./empty", StorageError, "empty:best holds no policies, expected"),
        ("./policies/policy.json", StorageError, "holds no policies, expected"),
        ("./other:9", ConfigError, "member 9 is not alive; alive: 3, 5"),
        ("./policies:3", ConfigError, "expected no :3 behind it"),
        ("./listener", ConfigError, "plays no agent 'player_2', expected one of speaker_0, listener_0"),
        ("./spoilt", StorageError, "is no export of covey"),
    ],
)
def test_opponents_that_cannot_play_are_refused_before_there_is_a_run(
    other: RunDirectory, tmp_path: Path, source: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    speaker_listener(tmp_path / "listener")
    shutil.copytree("policies", "spoilt")
    for file in Path("spoilt").glob("*.safetensors"):
        file.write_bytes(b"nothing")
    config = configured(player_2=source)
    with pytest.raises(error) as refused:
        check_sources(config)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(error):
        new_run(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_copy_that_was_damaged_is_told(other: RunDirectory, tmp_path: Path) -> None:
    config = configured(player_2="./policies")
    run = new_run(config, tmp_path / "runs")
    for file in kept_opponent(run, str((config.fitness.opponents or {})["player_2"])).glob("*.safetensors"):
        file.unlink()
    with pytest.raises(StorageError, match=r"fitness\.opponents\.player_2: the copy of .*remove that folder"):
        read_opponents(run, config)


def test_other_spaces_are_refused_with_the_leaves_that_differ(other: RunDirectory, tmp_path: Path) -> None:
    config = configured(player_2="./policies")
    found = read_opponents(new_run(config, tmp_path / "runs"), config)
    spaces = TrainedMember.read(other).spaces
    check_spaces(found, spaces)
    for change, words in (
        ({"action": Discrete(7)}, "player_2 decides Discrete"),
        ({"masked": False}, "player_2 has no action mask here"),
        ({"frame_stack": 2}, "player_2 reads 1 observations at once there, 2 here"),
    ):
        agents = tuple(replace(a, **change) if a.agent_id == "player_2" else a for a in spaces.agents)
        with pytest.raises(SpaceError, match="was trained for other spaces") as refused:
            check_spaces(found, replace(spaces, agents=agents, groups=spaces.groups))
        assert words in str(refused.value)


def test_runs_of_a_sweep_have_copies_of_their_own(other: RunDirectory, tmp_path: Path) -> None:
    job = {"algorithm": {"name": "IPPO"}, "environment": {"name": "pettingzoo.classic.tictactoe_v3"}, "training": {}}
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    prepared = Prepared(tmp_path / "job.yaml", ["fitness.opponents={player_2: ./policies}"])
    combination = Combination((), 0)
    prepared.check([combination])
    prepared.make_run(tmp_path / "run", combination)
    shutil.rmtree("policies")
    assert list(read_opponents(RunDirectory(tmp_path / "run"), prepared.config(combination))) == ["player_2"]
    with pytest.raises(StorageError, match="does not exist"):
        prepared.check([combination])
