"""`covey train` with stacks of frames: real actors, convolutions, resumed, evaluated, rendered, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.support.moving import LENGTH, Moving
from tests.support.processes import covey, covey_json, write_config

import covey as library
from covey.errors import SpaceError

GAME = "tests.support.moving:moving"
ALGORITHMS = {
    "IPPO": {"name": "IPPO", "learn_step": 48, "batch_size": 32},
    "MATD3": {"name": "MATD3", "learn_step": 24, "batch_size": 16},
}


def job(path: Path, algorithm: dict[str, Any], *, frames: int = 3, **arguments: Any) -> Path:
    write_config(
        path,
        algorithm=algorithm,
        environment={"name": GAME, "num_envs": 2, "config": arguments, "frame_stack": frames},
        mutation={"probabilities": {"no_mut": 0, "arch_mut": 1, "params_mut": 0, "rl_hp_mut": 0, "new_layer": 0.5}},
        training={"max_steps": 192, "evo_steps": 96, "pop_size": 2, "eval_steps": 20, "confirm_episodes": 2},
        actors={"local": 1},
    )
    network = {"latent_dim": 16, "encoder_config": {"channel_size": [8], "min_channel_size": 4, "kernel_size": [3]}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"network": network}))
    return path


@pytest.mark.parametrize(("name", "shape", "early"), [("IPPO", "hw", 0), ("MATD3", "tree", 3)])
def test_a_run_on_stacks_trains_resumes_and_is_used(name: str, shape: str, early: int, tmp_path: Path) -> None:
    config = job(tmp_path / "job.yaml", ALGORITHMS[name], shape=shape, early=early)
    result = covey_json("train", config, "--runs", tmp_path, "--json")
    assert result["state"] == "complete" and result["env_steps"] == 384
    run = result["run_dir"]
    resumed = covey_json("train", "--resume", run, "--set", "training.max_steps=288", "--json")
    assert resumed["state"] == "complete" and resumed["env_steps"] == 576
    assert not resumed.get("refused")
    assert covey("evaluate", run, "--episodes", 4).returncode == 0
    rendered = covey("render", run, "--out", tmp_path / "episode.gif")
    assert rendered.returncode == 0, rendered.stderr
    exported = covey("export", run, "--out", tmp_path / "policy")
    assert exported.returncode == 0, exported.stderr
    policy = library.load_policy(tmp_path / "policy")
    env = Moving(shape, early=early)
    for seed in range(2):
        seen, _ = env.reset(seed=seed)
        policy.reset()
        while env.agents:
            seen, *_ = env.step(policy.act({agent: seen[agent] for agent in env.agents}))


def test_what_frames_cannot_be_stacked_of_is_refused_before_training(tmp_path: Path) -> None:
    config = job(tmp_path / "job.yaml", ALGORITHMS["IPPO"], waits=True)
    for command in (("train", config, "--runs", tmp_path), ("check-env", "--config", config)):
        refused = covey(*command)
        assert refused.returncode == SpaceError.exit_code and "Traceback" not in refused.stderr
        told = refused.stdout + refused.stderr
        assert "environment.frame_stack: 3, but agents of this environment wait" in " ".join(told.split())
    wrong = covey("train", job(tmp_path / "job.yaml", ALGORITHMS["IPPO"], frames=17), "--runs", tmp_path)
    assert wrong.returncode == 2 and "environment.frame_stack: 17" in wrong.stderr


def test_check_env_says_what_networks_read(tmp_path: Path) -> None:
    config = job(tmp_path / "job.yaml", ALGORITHMS["IPPO"], shape="tree")
    shown = covey_json("check-env", "--config", config, "--json")
    assert any("image 8 x 8 as 3 x 8 x 8, number one number as 3, time 2 as 6" in said for said in shown["will"])


def test_an_exported_policy_wants_to_know_when_episodes_begin(tmp_path: Path) -> None:
    config = job(tmp_path / "job.yaml", ALGORITHMS["IPPO"])
    run = covey_json("train", config, "--runs", tmp_path, "--json")["run_dir"]
    assert covey("export", run, "--out", tmp_path / "policy").returncode == 0
    policy = library.load_policy(tmp_path / "policy")
    frames = np.zeros((5, 8, 8), np.uint8)
    with pytest.raises(SpaceError, match=r"call reset\(\) when an episode begins"):
        policy.act({"watcher_0": frames[0]})
    policy.reset()
    policy.act({"watcher_0": frames[0]})
    with pytest.raises(SpaceError, match="a batch of 5, expected 1 for each agent as since reset"):
        policy.act({"watcher_0": frames})


@pytest.mark.learning
@pytest.mark.parametrize("frames", [1, 3])
def test_two_frames_say_what_one_does_not(frames: int, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "job.yaml",
        algorithm={"name": "IPPO", "learn_step": 256, "batch_size": 128, "lr": 0.003},
        environment={"name": GAME, "num_envs": 8, "config": {}, "frame_stack": frames},
        training={"max_steps": 24_576, "evo_steps": 8_192, "pop_size": 1, "confirm_episodes": 100},
        actors={"local": 1},
    )
    best = covey_json("train", config, "--runs", tmp_path, "--json")["best_fitness"] / (2 * LENGTH)
    assert best > 0.75 if frames > 1 else best < 0.65
