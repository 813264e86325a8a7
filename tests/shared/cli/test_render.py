"""`covey render`: real environments, drawn without a screen."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mpe2 import simple_speaker_listener_v4
from PIL import Image, ImageSequence
from tests.support.untrained_runs import speaker_listener, tictactoe, untrained_run

from covey.cli import run
from covey.run.directory import RunDirectory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return speaker_listener(tmp_path_factory.mktemp("runs") / "job-1")


def test_episodes_become_frames_of_the_pace_that_was_asked_for(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.gif"
    options = ["--episodes", "2", "--steps", "4", "--fps", "20", "--play", "listener_0=random"]
    assert run(["render", str(finished.path), "--out", str(out), *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said[:2]] == ["4 env steps"] * 2
    assert said[-1] == f"{out}: 10 frames of member 5 of generation 2"
    with Image.open(out) as gif:
        assert gif.format == "GIF" and gif.info["loop"] == 0
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
    # Equal frames that follow each other are one that lasts.
    assert 1 < len(durations) <= 10 and sum(durations) == 10 * 50


def test_one_environment_plays_all_episodes(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    parallel_env = simple_speaker_listener_v4.parallel_env

    def counted(**config: Any) -> Any:
        built[-1] += 1
        return parallel_env(**config)

    monkeypatch.setattr(simple_speaker_listener_v4, "parallel_env", counted)
    for episodes in (1, 2, 5):
        built.append(0)
        options = ["--out", str(tmp_path / "x.gif"), "--episodes", str(episodes), "--steps", "2"]
        assert run(["render", str(finished.path), *options]) == 0
    assert built[0] == built[1] == built[2], "those that are built beside it are looked at, and play nothing"


@pytest.mark.slow
def test_a_game_in_turns_is_drawn_at_its_own_pace(tmp_path: Path) -> None:
    game = tictactoe(tmp_path / "game")
    out = tmp_path / "x.gif"
    assert run(["render", str(game.path), "--out", str(out)]) == 0
    with Image.open(out) as gif:
        assert 6 <= len(list(ImageSequence.Iterator(gif))) <= 10


def test_the_same_seed_shows_the_same(finished: RunDirectory, tmp_path: Path) -> None:
    files = []
    for i, seed in enumerate(("3", "3", "4")):
        files.append(tmp_path / f"{i}.gif")
        assert run(["render", str(finished.path), "--out", str(files[-1]), "--steps", "2", "--seed", seed]) == 0
    first, again, other = (f.read_bytes() for f in files)
    assert first == again != other


def test_without_pillow_a_sentence_names_the_extra(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run(["render", str(finished.path), "--out", str(tmp_path / "x.gif")]) == 2
    assert "pip install 'covey-marl[render]'" in capsys.readouterr().err


def test_an_environment_that_draws_nothing_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blind = untrained_run(tmp_path / "job", {"name": "MADDPG"}, {"name": "tests.support.environments:counter"})
    assert run(["render", str(blind.path), "--out", str(tmp_path / "x.gif")]) == 3
    said = capsys.readouterr().err
    assert "render_mode" in said and not (tmp_path / "x.gif").exists()


def test_a_file_that_cannot_be_written_is_one_sentence(
    finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none" / "x.gif"
    assert run(["render", str(finished.path), "--out", str(out), "--steps", "1"]) == 7
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.mp4", "x", "x.gif.webm"])
def test_only_a_gif_gets_the_name_of_one(
    name: str, finished: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", str(finished.path), "--out", str(tmp_path / name)]) == 2
    assert f"{name}: expected a name that ends in .gif" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_function_without_render_mode_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = untrained_run(tmp_path / "job", {"name": "IPPO"}, {"name": "tests.support.written_environments:Drawn"})
    assert run(["render", str(drawn.path), "--out", str(tmp_path / "x.gif")]) == 3
    told = capsys.readouterr().err
    assert "its function takes no render_mode, expected one; give it that parameter" in told and told.count("\n") == 1


def test_arrays_are_drawn_by_the_environment_that_they_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The film shows the episodes that `covey evaluate` plays: the returns are the same."""
    config = {"N": 2, "max_cycles": 7, "dynamic_rescaling": False}
    environment = {"name": "covey.envs.mpe.simple_spread_v3", "config": config}
    job = untrained_run(tmp_path / "job", {"name": "IPPO"}, environment)
    out = tmp_path / "x.gif"
    assert run(["render", str(job.path), "--out", str(out), "--play", "agent_1=random"]) == 0
    assert "8 frames" in capsys.readouterr().out and out.exists()
    assert run(["render", str(job.path), "--out", str(out)]) == 0
    drawn = capsys.readouterr().out.splitlines()[0]
    assert run(["evaluate", str(job.path), "--episodes", "1", "--json"]) == 0
    returns = json.loads(capsys.readouterr().out)["per_agent"]
    assert drawn == "7 env steps: " + ", ".join(f"{agent} {value:.2f}" for agent, value in returns.items())

    monkeypatch.setitem(sys.modules, "mpe2", None)
    assert run(["render", str(job.path), "--out", str(tmp_path / "y.gif")]) == 3
    told = capsys.readouterr().err
    assert "mpe2.simple_spread_v3 draws its pictures" in told and told.endswith("pip install mpe2\n")
    assert told.count("\n") == 1


def test_arrays_that_nothing_draws_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "tests.support.environments:batched_counter"
    job = untrained_run(tmp_path / "job", {"name": "MADDPG"}, {"name": name})
    assert run(["render", str(job.path), "--out", str(tmp_path / "x.gif")]) == 3
    told = capsys.readouterr().err
    assert "batched environments draw nothing" in told and "SHOWN_BY" in told and told.count("\n") == 1
