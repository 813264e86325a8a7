"""`covey train` on images: convolutions in real actors without torch, resumed, evaluated and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.support.processes import covey, covey_json, write_config

import covey as library

GAME = "tests.support.catching:catching"


def job(path: Path, algorithm: dict[str, Any], network: dict[str, Any], **arguments: Any) -> Path:
    write_config(
        path,
        algorithm=algorithm,
        environment={"name": GAME, "num_envs": 2, "config": arguments},
        mutation={"probabilities": {"no_mut": 0, "arch_mut": 1, "params_mut": 0, "rl_hp_mut": 0, "new_layer": 0.5}},
        training={"max_steps": 192, "evo_steps": 96, "pop_size": 2, "eval_steps": 20, "confirm_episodes": 2},
        actors={"local": 1},
    )
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"network": network}))
    return path


ALGORITHMS = {
    "IPPO": {"name": "IPPO", "learn_step": 48, "batch_size": 32},
    "MAPPO": {"name": "MAPPO", "learn_step": 48, "batch_size": 32},
    "MATD3": {"name": "MATD3", "learn_step": 24, "batch_size": 16},
    "MATD3, shared": {"name": "MATD3", "learn_step": 24, "batch_size": 16, "share_parameters": True},
}


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_a_run_on_images_trains_resumes_and_is_used(name: str, tmp_path: Path) -> None:
    network = {"latent_dim": 16, "encoder_config": {"channel_size": [8, 8], "min_channel_size": 4}}
    config = job(tmp_path / "job.yaml", ALGORITHMS[name], network, channels_first="MATD3" in name)
    result = covey_json("train", config, "--runs", tmp_path, "--json")
    assert result["state"] == "complete" and result["env_steps"] == 384
    run = result["run_dir"]
    resumed = covey_json("train", "--resume", run, "--set", "training.max_steps=288", "--json")
    assert resumed["state"] == "complete" and resumed["env_steps"] == 576
    kinds: dict[str, set[str]] = {"actor": set(), "critic": set()}
    for member in covey_json("members", run, "--json")["members"]:
        for key, own in member["architecture"].items():
            kinds[key.partition("/")[0][:6].rstrip("_")] |= {encoder["kind"] for encoder in own["encoders"].values()}
    # MAPPO's value networks read the images of both agents.
    assert kinds == {"actor": {"cnn"}, "critic": {"multi_input" if name == "MAPPO" else "cnn"}}
    assert covey("evaluate", run, "--episodes", 4).returncode == 0
    exported = covey("export", run, "--out", tmp_path / "policy")
    assert exported.returncode == 0, exported.stderr
    policy = library.load_policy(tmp_path / "policy")
    shape = (3, 10, 10) if "MATD3" in name else (10, 10, 3)
    actions = policy.act({agent: np.zeros(shape, np.uint8) for agent in ("catcher_0", "catcher_1")})
    assert all(int(action) in range(3) for action in actions.values())


def test_agents_may_have_encoders_of_different_kinds(tmp_path: Path) -> None:
    network = {
        "catcher_0": {"latent_dim": 16, "encoder_config": {"channel_size": [8], "kernel_size": [5]}},
        "catcher_1": {"latent_dim": 16, "encoder_config": {"hidden_size": [16]}},
    }
    config = job(tmp_path / "job.yaml", ALGORITHMS["MATD3"], network)
    done = covey("train", config, "--runs", tmp_path)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert "catcher_1: images of 10 x 10 pixels of 3 channels are flattened" in told
    assert "catcher_0: images" not in told
    (run,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    for member in covey_json("members", run, "--json")["members"]:
        own = {key: its["encoders"] for key, its in member["architecture"].items() if key.startswith("actor/")}
        assert own["actor/catcher_0"]["observation"]["kind"] == "cnn"
        assert own["actor/catcher_1"]["observation"]["kind"] == "mlp"


@pytest.mark.parametrize("name", ["IPPO", "MATD3"])
def test_a_dictionary_with_an_image_gets_an_encoder_of_both(name: str, tmp_path: Path) -> None:
    network = {"latent_dim": 16, "encoder_config": {"channel_size": [8, 8], "hidden_size": [8]}}
    config = job(tmp_path / "job.yaml", ALGORITHMS[name], network, features=True)
    result = covey_json("train", config, "--runs", tmp_path, "--json")
    assert result["state"] == "complete" and result["env_steps"] == 384
    for member in covey_json("members", result["run_dir"], "--json")["members"]:
        for own in member["architecture"].values():
            for encoder in own["encoders"].values():
                inputs = encoder["inputs"]
                assert encoder["kind"] == "multi_input"
                assert {part: its["kind"] for part, its in inputs.items()} == {"image": "cnn", "vector": "mlp"}
    exported = covey("export", result["run_dir"], "--out", tmp_path / "policy")
    assert exported.returncode == 0, exported.stderr
    policy = library.load_policy(tmp_path / "policy")
    seen = {"image": np.zeros((10, 10, 3), np.uint8), "place": np.zeros(1, np.float32)}
    actions = policy.act({agent: seen for agent in ("catcher_0", "catcher_1")})
    assert all(int(action) in range(3) for action in actions.values())


def test_a_kernel_without_room_is_refused_in_a_sentence(tmp_path: Path) -> None:
    network = {"encoder_config": {"kernel_size": [8, 4]}}
    done = covey("train", job(tmp_path / "job.yaml", ALGORITHMS["IPPO"], network), "--runs", tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "network.encoder_config.kernel_size: 4 in layer 1, expected at most 1" in done.stderr
    assert "10 x 10 pixels" in done.stderr


@pytest.mark.learning
def test_two_agents_learn_to_catch_from_pixels(tmp_path: Path) -> None:
    """Nine of ten games are caught, over seeds that nobody trained on."""
    config = write_config(
        tmp_path / "catching.yaml",
        algorithm={
            **{"name": "IPPO", "learn_step": 1024, "batch_size": 256, "update_epochs": 3, "lr": 0.001},
            **{"ent_coef": 0.01},
        },
        environment={"name": GAME, "num_envs": 8, "config": {"cells": 14, "pixels": 3, "channels": 1}},
        mutation={"probabilities": {"no_mut": 0.6, "arch_mut": 0.2, "params_mut": 0, "rl_hp_mut": 0.2}},
        training={"max_steps": 120_000, "evo_steps": 20_000, "pop_size": 2, "eval_steps": 20, "eval_loop": 4},
    )
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"network": {}}))
    result = covey_json("train", config, "--runs", tmp_path, "--json")
    evaluated = covey_json("evaluate", result["run_dir"], "--episodes", 400, "--json")
    # Both agents get 1 for a game that is caught, and -1 for one that is not.
    caught = (evaluated["mean_return"] / 2 + 1) / 2
    assert caught >= 0.9, f"{caught:.1%} of games caught"
