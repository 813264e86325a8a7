"""`covey evaluate` on a run directory as a learner leaves it, through the real environment."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.untrained_runs import speaker_listener, tictactoe, untrained_run

from covey.cli import run
from covey.cli.evaluate import outcomes, unseen_episode_seed
from covey.collect.slot_state import training_episode_seed
from covey.run.directory import RunDirectory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with the untrained members 3 and 5, of which 5 is the best."""
    return speaker_listener(tmp_path_factory.mktemp("runs") / "job-1")


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The same members, of a zero-sum game."""
    return tictactoe(tmp_path_factory.mktemp("runs") / "game-1")


def score(capsys: pytest.CaptureFixture[str], directory: RunDirectory, *arguments: str) -> dict[str, Any]:
    assert run(["evaluate", str(directory.path), "--json", *arguments]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_best_member_is_scored_summed_over_agents(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    result = score(capsys, finished, "--episodes", "6")
    keys = {"mean_return", "stderr", "per_agent", "episodes", "member_id", "generation", "policy", "against"}
    assert set(result) == keys and result["against"] == {}
    assert (result["member_id"], result["generation"], result["episodes"]) == (5, 2, 6)
    assert result["policy"] == "checkpoints/00000001"
    assert list(result["per_agent"]) == ["speaker_0", "listener_0"]
    assert result["mean_return"] == pytest.approx(sum(result["per_agent"].values()))
    assert result["mean_return"] < 0 < result["stderr"]


def test_equal_seeds_give_equal_scores_and_others_do_not(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    first = score(capsys, finished, "--episodes", "3", "--seed", "1")
    assert score(capsys, finished, "--episodes", "3", "--seed", "1") == first
    assert score(capsys, finished, "--episodes", "3", "--seed", "2")["mean_return"] != first["mean_return"]
    other = score(capsys, finished, "--episodes", "3", "--seed", "1", "--member", "3")
    assert other["member_id"] == 3
    assert other["mean_return"] != first["mean_return"]


def test_one_episode_has_no_standard_error(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(capsys, finished, "--episodes", "1")["stderr"] is None


def test_a_member_that_does_not_live_is_one_sentence(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(finished.path), "--member", "4"]) == 2
    assert "member 4 is not alive; alive: 3, 5" in capsys.readouterr().err


def test_an_agent_can_be_played_at_random(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    own = score(capsys, finished, "--episodes", "4")
    result = score(capsys, finished, "--episodes", "4", "--play", "listener_0=random")
    assert result["play"] == {"listener_0": "random"}
    assert result["mean_return"] != own["mean_return"]
    assert "outcomes" not in result, "both are paid the same in every episode: nobody wins, and it is no draw"


@pytest.mark.parametrize("options", [(), ("--play", "a_1=random"), ("--play", "a_1=3", "--play", "a_0=5")])
def test_who_cooperates_is_told_of_no_draws(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, name in enumerate(("Plain", "Unrewarded")):
        environment = {"name": f"tests.support.written_environments:{name}"}
        together = untrained_run(tmp_path / str(i), {"name": "IPPO"}, environment)
        assert run(["evaluate", str(together.path), "--episodes", "2", *options]) == 0
        told = capsys.readouterr().out
        assert "a_1" in told and "draw" not in told and "win" not in told


def test_the_runs_own_opponents_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opponents = {"player_1": "random", "player_2": 3}
    with_opponents = tictactoe(tmp_path / "a", fitness={"opponents": opponents, "agents": ["player_1"]})
    result = score(capsys, with_opponents, "--episodes", "20")
    assert result["play"] == opponents
    plain = score(
        capsys, tictactoe(tmp_path / "b"), *("--episodes", "20", "--play", "player_1=random", "--play", "player_2=3")
    )
    assert result == plain
    other = score(capsys, with_opponents, "--episodes", "2", "--play", "player_2=5")
    assert other["play"] == {"player_1": "random", "player_2": 5}, "what the command line says comes first"
    died = tictactoe(tmp_path / "c", fitness={"opponents": {"player_2": 0}})
    assert score(capsys, died, "--episodes", "2", "--member", "3")["play"] == {"player_2": 5}, (
        "the best takes its place"
    )


def test_each_side_of_a_zero_sum_game_is_played_where_the_run_did_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = [["player_1"], ["player_2"]]
    by_sides = tictactoe(tmp_path / "a", sides=sides)
    result = score(capsys, by_sides, "--episodes", "20")
    assert list(result["against"]) == ["random"] and "play" not in result, "no generation has left an elite"
    won = result["per_agent"]
    assert result["mean_return"] == pytest.approx((won["player_1"] + won["player_2"]) / 2)
    for agent in won:
        shares = result["outcomes"][agent]
        assert sum(shares.values()) == pytest.approx(1) and shares["win"] - shares["loss"] == pytest.approx(won[agent])
    assert run(["evaluate", str(by_sides.path), "--episodes", "4"]) == 0
    assert "\n  against random: " in capsys.readouterr().out
    chosen = score(capsys, by_sides, "--episodes", "4", "--play", "player_2=random")
    assert chosen["play"] == {"player_2": "random"}, "what the command line says comes first"
    named = tictactoe(tmp_path / "b", sides=sides, fitness={"opponents": {"player_2": "elite"}})
    assert score(capsys, named, "--episodes", "2")["play"] == {"player_2": "elite"}
    nobody = tictactoe(tmp_path / "c", sides=sides, fitness={"opponents": {}})
    assert score(capsys, nobody, "--episodes", "2")["against"] == {}


def test_an_agent_can_be_played_by_another_member(finished: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    others = ["--play", "speaker_0=3", "--play", "listener_0=3"]
    result = score(capsys, finished, "--episodes", "3", *others)
    third = score(capsys, finished, "--episodes", "3", "--member", "3")
    assert result["member_id"] == 5 and result["play"] == {"speaker_0": 3, "listener_0": 3}
    assert result["per_agent"] == third["per_agent"]
    itself = score(capsys, finished, "--episodes", "3", "--play", "listener_0=5")
    assert itself["per_agent"] == score(capsys, finished, "--episodes", "3")["per_agent"]


def test_a_zero_sum_game_has_outcomes_without_being_asked(
    game: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    result = score(capsys, game, "--episodes", "40", "--play", "player_2=random")
    first, second = (result["outcomes"][p] for p in ("player_1", "player_2"))
    assert sum(first.values()) == pytest.approx(1)
    assert (first["win"], first["draw"], first["loss"]) == (second["loss"], second["draw"], second["win"])
    assert first["win"] - first["loss"] == pytest.approx(result["per_agent"]["player_1"])
    assert 0 < first["win"] < 1, "random play wins and loses"
    alone = score(capsys, game, "--episodes", "2")
    assert "play" not in alone and set(alone["outcomes"]) == {"player_1", "player_2"}
    assert run(["evaluate", str(game.path), "--episodes", "2", "--play", "player_2=3"]) == 0
    assert "player_2 (played by member 3): " in capsys.readouterr().out


def test_outcomes_compare_with_the_best_of_the_others() -> None:
    returns = np.array([[3.0, 1.0, 3.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    assert outcomes(returns, ["a", "b", "c"]) == {
        "a": {"win": 0.25, "draw": 0.5, "loss": 0.25},
        "b": {"win": 0.0, "draw": 0.25, "loss": 0.75},
        "c": {"win": 0.25, "draw": 0.5, "loss": 0.25},
    }


@pytest.mark.parametrize(
    ("play", "words"),
    [
        (["nobody=random"], ["--play nobody=random", "no agent 'nobody'", "speaker_0, listener_0"]),
        (["listener_0=4"], ["member 4 is not alive; alive: 3, 5"]),
        (["listener_0=best"], ["--play listener_0=best", "AGENT=random, AGENT=elite or AGENT=MEMBER"]),
        (["listener_0"], ["--play listener_0", "AGENT=random, AGENT=elite or AGENT=MEMBER"]),
        (["listener_0=3", "listener_0=5"], ["played by 3 already"]),
    ],
)
def test_players_that_do_not_exist_are_one_sentence(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str], play: list[str], words: list[str]
) -> None:
    options = [part for option in play for part in ("--play", option)]
    assert run(["evaluate", str(finished.path), "--episodes", "1", *options]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_seeds_are_their_own() -> None:
    seeds = {unseen_episode_seed(s, k) for s in range(4) for k in range(500)}
    assert len(seeds) == 2000
    assert all(1 << 30 <= seed < 1 << 31 for seed in seeds), "training and selection use seeds below 2^30"
    trained = {training_episode_seed(s, k) for s in (0, 1, 1 << 63) for k in range(500)}
    assert all(0 <= seed < 1 << 30 for seed in trained)


def test_it_needs_no_torch(finished: RunDirectory) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from covey.cli import run; "
        f"sys.exit(run(['evaluate', {str(finished.path)!r}, '--episodes', '2']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "member 5 of generation 2: -" in result.stdout


@pytest.mark.parametrize("name", ["simple_spread_v3", "simple_tag_v3", "simple_crypto_v3"])
def test_arrays_score_what_the_environment_that_they_copy_scores(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = {
        package: untrained_run(tmp_path / package, {"name": "IPPO"}, {"name": f"{package}.{name}"})
        for package in ("mpe2", "covey.envs.mpe")
    }
    single, arrays = (score(capsys, directory, "--episodes", "5") for directory in of.values())
    assert arrays == single
    assert arrays["stderr"] > 0
