"""`covey train` where observations are large, or lie outside of their own spaces, with real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.manifests import OLDER_ON_POLICY
from tests.support.processes import covey, covey_json, write_config

HERE = "tests.support.observed_environments"

ROW_BYTES = 806_439
"""Two images of 280 x 480 x 3 bytes, and what goes with them."""

SHRUNK = {
    # As many as in AgileRL's manifest: an environment each, of which a fragment holds four rows.
    "environment.num_envs": 16,
    "environment.name": f"{HERE}:Pong",
    # A network of this machine's size, and as little training as shows both generations.
    "network.encoder_config.channel_size": [8, 8],
    "training.pop_size": 1,
    "training.max_steps": 64,
    "training.evo_steps": 32,
    "training.confirm_episodes": 1,
    "algorithm.learn_step": 32,
    "actors.local": 1,
    "logging.wandb": False,
}


@pytest.mark.slow
def test_cooperative_pong_trains_from_agilerls_manifest_with_as_many_slots_as_fit(tmp_path: Path) -> None:
    job = tmp_path / "ippo_pong.yaml"
    job.write_text(OLDER_ON_POLICY)
    settings = [f"--set={key}={json.dumps(value)}" for key, value in SHRUNK.items()]
    trained = covey("train", job, *settings, "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["state"] == "complete" and result["env_steps"] == 64
    assert set(result["best_per_agent"].values()) == {10.0}, "each agent earns 1 in each of ten steps"
    status = covey_json("status", result["run_dir"], "--json")
    assert not status["counters"].get("refused") and status["updates"] == 2
    [joined] = [event for event in status["events"] if " joined with " in event]
    assert joined.startswith("actor local-0 joined with 10 slots from ")
    assert joined.endswith(f", of the 16 asked for: more do not fit into a fragment (a row is {ROW_BYTES:,} bytes)")
    [actor] = covey_json("actors", result["run_dir"], "--json")["actors"]
    assert (actor["slots"], actor["slots_asked"]) == (10, 16)
    assert " 10 of 16 " in covey("actors", result["run_dir"]).stdout


def test_observations_outside_of_their_space_are_told_and_counted_and_trained_on(tmp_path: Path) -> None:
    job = write_config(
        tmp_path / "job.yaml",
        algorithm={"name": "IPPO"},
        environment={"name": f"{HERE}:Outside", "num_envs": 2, "config": {}},
        training={"max_steps": 128, "evo_steps": 64, "pop_size": 2, "confirm_episodes": 2},
        actors={"local": 1},
    )
    trained = covey("train", job, "--runs", tmp_path, "--json")
    assert trained.returncode == 0, trained.stderr
    sentence = "observation of agent 'a_1' is 12 at [0], expected -10 to 10 as its observation space says"
    assert trained.stderr.count(f"environment: {sentence}; it is used as it is, and told once") == 1
    run = json.loads(trained.stdout)["run_dir"]
    status = json.loads(covey("status", run, "--json").stdout)
    assert status["env_steps"] == 256 and not status["counters"].get("refused")
    [event] = [event for event in status["events"] if sentence in event]
    assert event == (
        f"environment {HERE}:Outside of actor local-0: {sentence}; it is learned from as it is, and further ones are "
        "counted"
    )
    # Six of ten in an episode: those after 4 to 9 env steps.
    [actor] = json.loads(covey("actors", run, "--json").stdout)["actors"]
    assert actor["observations_outside"] == status["counters"]["observations_outside"]
    assert 0.5 * 256 <= status["counters"]["observations_outside"] <= 0.7 * 256
    assert (actor["slots"], actor["slots_asked"]) == (2, 2)
