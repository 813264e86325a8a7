"""Zero-sum games from the smallest configuration: trained, evaluated against opponents, drawn, exported, played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.processes import ROOT, covey, covey_json

import covey as library

STEPS = {"max_steps": 600, "evo_steps": 300, "confirm_episodes": 12}


def trained(folder: Path, environment: str, algorithm: str, **training: int) -> dict[str, Any]:
    """Train by a configuration that says nothing but the algorithm, the environment and fewer steps."""
    job = {"algorithm": {"name": algorithm}, "environment": {"name": environment}, "training": STEPS | training}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return covey_json("train", folder / "job.yaml", "--runs", folder / "runs", "--json")


@pytest.mark.parametrize(
    ("environment", "algorithm"),
    [
        ("tictactoe_v3", "IPPO"),
        ("tictactoe_v3", "MATD3"),
        ("connect_four_v3", "IPPO"),
        ("rps_v2", "IPPO"),
        ("leduc_holdem_v4", "IPPO"),
    ],
)
def test_a_game_needs_no_opponents_in_its_configuration(environment: str, algorithm: str, tmp_path: Path) -> None:
    result = trained(tmp_path, f"pettingzoo.classic.{environment}", algorithm)
    run = result["run_dir"]
    assert result["state"] == "complete" and result["env_steps"] == 4 * 600
    assert list(result["best_against"]) == ["random", "the elite of generation 0"]
    assert result["best_fitness"] == pytest.approx(sum(result["best_against"].values()) / 2)
    status = covey_json("status", run, "--json")
    (event,) = [e for e in status["events"] if e.startswith("zero-sum game: ")]
    assert ("plays against itself" in event) == (algorithm == "IPPO"), "there one policy plays both sides"

    played = covey_json("evaluate", run, "--episodes", 8, "--member", "best", "--json")
    assert "random" in played["against"] and sum(a["episodes"] for a in played["against"].values()) == 8
    assert played["per_agent"].keys() == result["best_per_agent"].keys()
    for who, part in played["against"].items():
        assert part["episodes"] >= 4, who
        for shares in part.get("outcomes", {}).values():
            assert sum(shares.values()) == pytest.approx(1)
    text = covey("evaluate", run, "--episodes", 4, "--generation", 1).stdout
    assert "  against random: " in text and "  against the elite of generation 0: " in text
    film = covey("render", run, "--out", tmp_path / "film.gif", "--episodes", 2, "--steps", 20)
    assert film.returncode == 0 and film.stdout.count("(played at random)") == 2, film.stderr
    assert covey("export", run, "--out", tmp_path / "policy").returncode == 0
    policy = library.load_policy(tmp_path / "policy")
    assert set(policy.spaces.agent_ids) == set(result["best_per_agent"])


def test_a_run_goes_on_with_its_opponents(tmp_path: Path) -> None:
    first = trained(tmp_path, "pettingzoo.classic.tictactoe_v3", "IPPO")
    run = first["run_dir"]
    more = covey_json("train", "--resume", run, "--set", "training.max_steps=900", "--json")
    assert list(more["best_against"]) == ["random", "the elite of generation 1"]
    scores = [json.loads(p.read_text()) for p in sorted(Path(run, "elites").glob("*/score.json"))]
    assert [s["sides"] for s in scores] == [[["player_1"], ["player_2"]]] * 3


def test_hanabi_takes_all_seeds(tmp_path: Path) -> None:
    """Its C++ takes seeds below 2^31 only."""
    result = trained(tmp_path, "pettingzoo.classic.hanabi_v5", "IPPO")
    run = result["run_dir"]
    assert result["state"] == "complete" and not result["best_against"], "its players win together"
    assert covey_json("evaluate", run, "--episodes", 8, "--json")["against"] == {}
    assert covey("export", run, "--out", tmp_path / "policy").returncode == 0


@pytest.mark.learning
def test_tictactoe_learns_to_beat_random_play_without_naming_an_opponent(tmp_path: Path) -> None:
    job = yaml.safe_load((ROOT / "examples" / "tictactoe.yaml").read_text())
    del job["fitness"]
    job["training"] |= {"max_steps": 81_920, "pop_size": 2}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    run = covey_json("train", tmp_path / "job.yaml", "--runs", tmp_path / "runs", "--json")["run_dir"]
    # Random moves against random moves get 0 over both sides, and so do members that have learned nothing.
    won = covey_json("evaluate", run, "--episodes", 400, "--json")["against"]["random"]
    assert won["mean_return"] > 0.6, won
    losses = {agent: shares["loss"] for agent, shares in won["outcomes"].items()}
    assert losses["player_1"] < 0.15 and losses["player_2"] < 0.35, losses
