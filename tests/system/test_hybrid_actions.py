"""`covey train` where actions are a Dict of every kind of leaf, with real processes: trained, evaluated, exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.hybrid_environment import ARM, Hybrid
from tests.support.processes import covey, covey_json, write_config

import covey as library

OFF_POLICY = {"learn_step": 1, "batch_size": 64, "lr_actor": 0.0015, "lr_critic": 0.01, "tau": 0.2, "gamma": 0.0}
OFF_POLICY |= {"O_U_noise": False, "expl_noise": 0.3}
SETTINGS = {
    "MADDPG": (OFF_POLICY, 800),
    "MATD3": (OFF_POLICY, 800),
    "IPPO": ({"learn_step": 128, "batch_size": 64, "lr": 0.004, "update_epochs": 4, "gamma": 0.0}, 2048),
}
AT_RANDOM = 4 * (0.5 + 0.5 + 0.42 + 0.5 + 0.33 + 0.5) / 6
"""Expected return of one agent that acts at random: four steps, each the mean of what its six parts earn."""


@pytest.mark.parametrize("algorithm", list(SETTINGS))
def test_every_algorithm_learns_each_leaf_and_keeps_to_masks(algorithm: str, tmp_path: Path) -> None:
    settings, steps = SETTINGS[algorithm]
    path = write_config(
        tmp_path / "job.yaml",
        algorithm={"name": algorithm, **settings},
        environment={"name": "tests.support.hybrid_environment:Hybrid", "num_envs": 4, "config": {}},
        network={"latent_dim": 16, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [32]}},
        mutation={"probabilities": {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
        training={
            "max_steps": steps,
            "evo_steps": steps,
            "pop_size": 2,
            "confirm_episodes": 10,
            "random_steps": 0 if algorithm == "IPPO" else steps // 2,
        },
    )
    trained = covey("train", path, "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["state"] == "complete" and result["env_steps"] == 2 * steps
    # The environment raises if anything illegal is done, in evaluation as well.
    assert "environment_fault" not in covey_json("status", result["run_dir"], "--json")["counters"]
    assert min(result["best_per_agent"].values()) > (AT_RANDOM + 4) / 2, "of 4 that can be earned"
    assert covey("export", result["run_dir"], "--out", tmp_path / "policy").returncode == 0
    env, policy = Hybrid(), library.load_policy(tmp_path / "policy")
    seen, _ = env.reset(seed=3)
    while env.agents:
        masks = {a: x["action_mask"] for a, x in seen.items()}
        done = policy.act({a: x["observation"] for a, x in seen.items()}, masks=masks)
        assert done["arm_0"].keys() == ARM.spaces.keys() and np.shape(done["arm_0"]["tool"][1]) == (2,)
        seen, *_ = env.step(done)
