"""`covey train` where observations are of very different sizes: what is learned, and who plays by it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.processes import covey, covey_json, write_config
from tests.support.scaled_environment import FAR, LARGE, SMALL

import covey as library
from covey.run.checkpoint_format import read_newest
from covey.run.directory import RunDirectory
from covey.run.trained import TrainedMember

BEST, CHANCE = 16.0, 8.0
"""Returns of both agents together."""

IPPO = {
    "name": "IPPO",
    "learn_step": 128,
    "batch_size": 64,
    "lr": 0.004,
    "clip_coef": 0.3,
    "gamma": 0.5,
}
MADDPG = {
    "name": "MADDPG",
    "learn_step": 4,
    "batch_size": 64,
    "lr_actor": 0.003,
    "lr_critic": 0.01,
    "tau": 0.1,
    "output_penalty": 0.01,
    "gamma": 0.5,
    "expl_noise": 0.5,
}


MAPPO = {**IPPO, "name": "MAPPO"}
QMIX = {
    **{"name": "QMIX", "learn_step": 4, "batch_size": 64, "lr": 0.003, "tau": 0.1, "gamma": 0.5},
    **{"epsilon_steps": 1500},
}


def job(path: Path, algorithm: dict[str, Any], **sections: Any) -> Path:
    training = {"max_steps": 1536, "evo_steps": 768, "pop_size": 2, "confirm_episodes": 20} | sections.pop(
        "training", {}
    )
    return write_config(
        path,
        algorithm=algorithm,
        environment={"name": "tests.support.scaled_environment:Scaled", "num_envs": 4, "config": {}},
        network={
            "latent_dim": 16,
            "encoder_config": {"hidden_size": [16]},
            "head_config": {"hidden_size": [16]},
        },
        training=training,
        actors={"local": 1},
        **sections,
    )


def signs(policy: Any, rng: np.random.Generator) -> float:
    """The share of the signs that a policy's actions follow."""
    right = 0
    for _ in range(50):
        drawn = rng.choice([-1.0, 1.0], 2)
        seen = {
            f"scout_{i}": np.array([SMALL * sign, *(FAR + LARGE * rng.normal(size=2))], np.float32)
            for i, sign in enumerate(drawn)
        }
        actions = policy.act(seen)
        right += sum(int(actions[f"scout_{i}"]) == (sign > 0) for i, sign in enumerate(drawn))
    return right / 100


@pytest.mark.parametrize("algorithm", [IPPO, MADDPG, MAPPO, QMIX], ids=["IPPO", "MADDPG", "MAPPO", "QMIX"])
def test_a_task_of_very_different_sizes_is_learned_and_played_elsewhere(
    algorithm: dict[str, Any], tmp_path: Path
) -> None:
    """Trained, evaluated in another process, resumed with children, exported and played without a run."""
    own = {**algorithm, "normalize_observations": True}
    off_policy = algorithm in (MADDPG, QMIX)
    training = {"random_steps": 256, "learning_delay": 128, "max_steps": 3072} if off_policy else {}
    config = job(tmp_path / "on.yaml", own, training=training)
    result = covey_json("train", config, "--runs", tmp_path, "--json", "--deterministic")  # as much is learned anywhere
    assert result["best_fitness"] > 15, result
    run = result["run_dir"]
    played = covey_json("evaluate", run, "--episodes", 20, "--json")
    assert played["mean_return"] > 15, played
    _, state, _ = read_newest(RunDirectory.open(Path(run)).checkpoints)
    # Each of both agents decides in each env step; children go on from their parents' statistics.
    ids = {m["member_id"]: m for m in state["members"]}
    assert any(m["parent_id"] is not None for m in ids.values()) or len(ids) == 1
    for m in ids.values():
        actors = [n for key, n in m["networks"].items() if key.startswith("actor/")]
        counts = [n["observed"]["count"] for n in actors]
        assert sum(counts) > 2 * 1000 and all(np.array(n["observed"]["mean"])[1] > FAR / 2 for n in actors)
    exported = covey("export", run, "--out", tmp_path / "policy")
    assert exported.returncode == 0, exported.stderr
    assert signs(library.load_policy(tmp_path / "policy"), np.random.default_rng(0)) > 0.9
    member = TrainedMember.read(RunDirectory.open(Path(run)), state["members"][0]["member_id"])
    assert all(policy.spec.normalized == ((0, 3),) for policy in member.policies())


@pytest.mark.parametrize("algorithm", [IPPO, MADDPG], ids=["IPPO", "MADDPG"])
def test_without_it_nothing_is_learned(algorithm: dict[str, Any], tmp_path: Path) -> None:
    result = covey_json("train", job(tmp_path / "off.yaml", algorithm), "--runs", tmp_path, "--json")
    assert result["best_fitness"] < 12, result


def test_scaled_rewards_stay_as_they_are_in_what_is_reported(tmp_path: Path) -> None:
    own = {**IPPO, "normalize_observations": True, "scale_rewards": True}
    result = covey_json("train", job(tmp_path / "on.yaml", own), "--runs", tmp_path, "--json")
    assert CHANCE < 15 < result["best_fitness"] <= BEST
