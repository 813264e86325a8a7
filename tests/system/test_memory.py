"""Policies with memory in real runs: they answer what no policy without memory can, wherever they are played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from tests.support.cue_environment import CueEnv
from tests.support.probes.trainers import Trainers
from tests.support.processes import covey, covey_json, write_config

import covey as library
from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2 as pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey_server.app import LearnerProcess

CUE = "tests.support.cue_environment:CueEnv"
BEST, CHANCE = 2.0, 1.0  # sums of two agents


def job(path: Path, recurrent: bool, steps: int = 8192, name: str = "IPPO", **sections: dict[str, Any]) -> Path:
    write_config(
        path,
        algorithm={
            "name": name,
            "lr": 0.003,
            "batch_size": 128,
            "learn_step": 512,
            "bptt_steps": 8,
            "update_epochs": 4,
        },
        environment={"name": CUE, "num_envs": 8, "config": {}},
        training={"max_steps": steps, "evo_steps": 4096, "pop_size": 2, "confirm_episodes": 100, "seed": 1},
        **sections,
    )
    encoder = {"hidden_size": [16], "recurrent": recurrent} | ({"hidden_state_size": 16} if recurrent else {})
    network = {"latent_dim": 16, "encoder_config": encoder, "head_config": {"hidden_size": [16]}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"network": network}))
    return path


@pytest.fixture(scope="module")
def trained(trainers: Trainers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose policies have memory."""
    result = trainers.train(job(tmp_path_factory.mktemp("memory") / "cue.yaml", recurrent=True))
    assert result["state"] == "complete"
    return Path(str(result["run_dir"]))


def fitness(run: Path) -> float:
    return max(float(member["fitness"]) for member in covey_json("members", run, "--json")["members"])


def test_what_was_seen_first_is_named_when_asked_for(trained: Path) -> None:
    assert fitness(trained) == pytest.approx(BEST)
    evaluated = covey_json("evaluate", trained, "--episodes", 50, "--json")
    assert evaluated["mean_return"] == pytest.approx(BEST)


def test_mappo_remembers_too(trainers: Trainers, tmp_path: Path) -> None:
    result = trainers.train(job(tmp_path / "cue.yaml", recurrent=True, name="MAPPO"))
    assert fitness(Path(str(result["run_dir"]))) == pytest.approx(BEST)


def test_without_memory_it_is_a_matter_of_chance(trainers: Trainers, tmp_path: Path) -> None:
    result = trainers.train(job(tmp_path / "cue.yaml", recurrent=False))
    assert fitness(Path(str(result["run_dir"]))) < (BEST + CHANCE) / 2


def test_exported_policies_remember_until_they_are_reset(trained: Path, tmp_path: Path) -> None:
    done = covey("export", trained, "--out", tmp_path / "policies")
    assert done.returncode == 0, done.stderr
    policy = library.load_policy(tmp_path / "policies")
    environments = [CueEnv() for _ in range(16)]
    right = []
    for episode in range(2):
        seen = [env.reset(seed=100 * episode + i)[0] for i, env in enumerate(environments)]
        policy.reset()
        steps: list[Any] = []
        while environments[0].agents:
            batch = {agent: np.stack([own[agent] for own in seen]) for agent in environments[0].agents}
            actions = policy.act(batch)
            steps = [env.step({a: actions[a][i] for a in batch}) for i, env in enumerate(environments)]
            seen = [step[0] for step in steps]
        right += [step[1][agent] for step in steps for agent in step[1]]
    assert np.mean(right) == 1.0
    # Without a reset the cue of the episode before may be in the way; asked at once, a policy knows nothing of it.
    policy.reset()
    asked = {agent: np.tile(np.array([0, 1], np.float32), (16, 1)) for agent in environments[0].possible_agents}
    said = policy.act(asked)
    assert all(len(set(values.tolist())) == 1 for values in said.values()), "all rows remember the same: nothing"


def test_an_actor_of_version_1_is_refused_with_a_sentence(tmp_path: Path) -> None:
    config = load_config(job(tmp_path / "cue.yaml", recurrent=True))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    process.start()
    channel = grpc.insecure_channel(process.address)
    try:
        stub = ActorServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Describe(pb.DescribeRequest(protocol_version=1, oldest_protocol_version=1), timeout=60)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "whose policies have memory (network.encoder_config.recurrent)" in str(caught.value.details())
        asked = pb.DescribeRequest(protocol_version=2, oldest_protocol_version=1)
        assert stub.Describe(asked, timeout=60).protocol_version == 2
    finally:
        channel.close()
        process.stop()
