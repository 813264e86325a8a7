"""`covey train` in the QMIX paper's two-step game: a sum of utilities (VDN, PQN) finds 7, a monotonic mix (QMIX) 8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.probes.trainers import Trainers
from tests.support.processes import write_config

import covey
from covey.cli import run as run_command


def answer(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints as JSON."""
    assert run_command([*arguments, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(("algorithm", "expected"), [("VDN", 7.0), ("PQN", 7.0), ("QMIX", 8.0)])
def test_the_mix_decides_what_a_team_finds(
    trainers: Trainers, tmp_path: Path, capfd: pytest.CaptureFixture[str], algorithm: str, expected: float
) -> None:
    config = write_config(
        tmp_path / "game.yaml",
        algorithm={
            "name": algorithm,
            "lr": 0.003,
            "gamma": 0.99,
            "batch_size": 64,
            "epsilon_end": 1.0,  # all actions are tried alike, as in the paper
            **({"learn_step": 256, "update_epochs": 8} if algorithm == "PQN" else {"learn_step": 2, "tau": 0.05}),
        },
        environment={"name": "tests.support.two_step_game:TwoStepGame", "config": {}},
        network={"encoder_config": {"hidden_size": [], "min_hidden_layers": 0}, "head_config": {"hidden_size": [32]}},
        mutation={"probabilities": {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
        training={"max_steps": 3000, "evo_steps": 3000, "pop_size": 2, "confirm_episodes": 4},
    )
    result = trainers.train(config)
    assert result["state"] == "complete" and result["updates"] > (20 if algorithm == "PQN" else 2500)
    run = result["run_dir"]
    for member in answer(capfd, "members", run)["members"]:
        assert member["fitness"] == pytest.approx(expected), member["member_id"]
    # Evaluation, and the exported policy, play what the values say is best.
    assert answer(capfd, "evaluate", run, "--episodes", "4")["mean_return"] == pytest.approx(expected)
    assert run_command(["export", run, "--out", str(tmp_path / "policy")]) == 0
    policy = covey.load_policy(tmp_path / "policy")
    first, after = np.eye(3, dtype=np.float32)[0], np.eye(3, dtype=np.float32)[2]
    chosen = policy.act({"agent_0": first, "agent_1": first})
    assert int(chosen["agent_0"]) == int(algorithm == "QMIX")
    if algorithm == "QMIX":
        assert {int(a) for a in policy.act({"agent_0": after, "agent_1": after}).values()} == {1}
