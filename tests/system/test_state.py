"""`covey train` with the state of the environment: QMIX finds what it cannot find without, MAPPO values better."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from tests.support.hidden_step import BEST, SECOND
from tests.support.probes.trainers import Trainers
from tests.support.processes import covey, covey_json, write_config

GAME = "tests.support.hidden_step:HiddenStep"
NETWORK = {"encoder_config": {"hidden_size": [16]}, "latent_dim": 16, "head_config": {"hidden_size": [16]}}
QMIX = {
    **{"name": "QMIX", "lr": 0.005, "gamma": 0.99, "tau": 0.05, "batch_size": 64, "learn_step": 2},
    "epsilon_end": 1.0,  # all actions are tried alike
}
MAPPO = {"name": "MAPPO", "lr": 0.005, "learn_step": 256, "batch_size": 64, "gamma": 0.99, "update_epochs": 4}


def job(path: Path, algorithm: dict[str, Any], state: bool, steps: int, **arguments: Any) -> Path:
    return write_config(
        path,
        algorithm=algorithm,
        environment={"name": GAME, "num_envs": 4, "config": arguments, "state": state},
        network=NETWORK,
        mutation={"probabilities": {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
        training={"max_steps": steps, "evo_steps": steps, "pop_size": 2, "confirm_episodes": 8},
        actors={"local": 1},
        logging={"interval_s": 0.25},  # so that the last losses are those of the last updates alone
    )


def value_losses(run: Path) -> list[float]:
    """The last ones of all members."""
    with (run / "metrics.csv").open() as file:
        last = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}
    found = [value for name, value in last.items() if name.endswith("/value_loss") and name.startswith("place_")]
    assert len(found) == 2
    return found


@pytest.mark.parametrize("state", [True, False])
def test_a_mixer_that_reads_the_state_tells_steps_apart_that_look_alike(
    trainers: Trainers, tmp_path: Path, state: bool
) -> None:
    result = trainers.train(job(tmp_path / "game.yaml", QMIX, state, 3000))
    assert result["state"] == "complete" and result["updates"] > 2500
    for member in covey_json("members", result["run_dir"], "--json")["members"]:
        assert member["fitness"] == pytest.approx(BEST if state else SECOND), member["member_id"]


def test_values_of_the_state_explain_what_observations_do_not(trainers: Trainers, tmp_path: Path) -> None:
    """Nearly all of the returns' variance is luck, which the state alone shows; without it nothing is explained."""
    losses = {}
    for state in (True, False):
        result = trainers.train(job(tmp_path / f"{state}.yaml", MAPPO, state, 4096, luck=5.0))
        losses[state] = value_losses(Path(str(result["run_dir"])))
    assert max(losses[True]) < 0.1 * min(losses[False]), losses


def test_who_does_not_read_the_state_says_so(tmp_path: Path) -> None:
    ippo = {"name": "IPPO", "learn_step": 64}
    done = covey("train", job(tmp_path / "ippo.yaml", ippo, True, 128), "--runs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "environment.state: true, but no network of IPPO reads the state" in done.stdout + done.stderr
    done = covey("check-env", "--config", job(tmp_path / "qmix.yaml", QMIX, True, 128))
    assert done.returncode == 0, done.stderr
    assert "environment.state: the mixer networks of QMIX read it as 3 numbers" in done.stdout.replace("\n", " ")
