"""An actor that lacks a kind of encoder which a run's policies have is refused as it joins, and told what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from tests.support.processes import PATIENCE_S, write_config

from covey.config import load_config
from covey.envs import load_environment, read_spaces
from covey.networks.encoders import known_kinds
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2 as pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey.wire.messages import spaces_to_proto
from covey_server.app import LearnerProcess

IMAGES = "tests.support.catching:catching"
NUMBERS = "tests.support.environments:counter"
MODULE = "tests.support.own_networks:scaled"


@pytest.fixture
def joining(tmp_path: Path) -> Iterator[Callable[..., Callable[[list[str]], str]]]:
    """Start a learner with an environment and encoder; gives what tries to join with kinds, and says why it may not."""
    ends: list[Callable[[], Any]] = []

    def start(environment: str, **encoder: Any) -> Callable[[list[str]], str]:
        job = write_config(tmp_path / "job.yaml", environment={"name": environment})
        network = {"network": {"encoder_config": encoder}}
        job.write_text(yaml.safe_dump(yaml.safe_load(job.read_text()) | network))
        config = load_config(job)
        learner = LearnerProcess(config, new_run(config, tmp_path / "runs"))
        learner.start()
        channel = grpc.insecure_channel(learner.address)
        ends.extend((channel.close, learner.stop))
        stub = ActorServiceStub(channel)
        env = load_environment(environment, {})()
        spaces = spaces_to_proto(read_spaces(env))
        env.close()
        named = stub.Describe(pb.DescribeRequest(protocol_version=1), timeout=PATIENCE_S).network_modules
        assert list(named) == ([encoder["module"]] if "module" in encoder else [])

        def join(kinds: list[str]) -> str:
            request = pb.JoinRequest(
                protocol_version=1,
                actor_id=f"a-{len(kinds)}",
                incarnation=len(kinds) + 1,
                spaces=spaces,
                train_slots=1,
                eval_slots=1,
                encoder_kinds=kinds,
            )
            try:
                stub.Join(request, timeout=PATIENCE_S)
            except grpc.RpcError as exc:
                assert exc.code() == grpc.StatusCode.FAILED_PRECONDITION
                return str(exc.details())
            return ""

        return join

    yield start
    for end in ends:
        end()


def test_images_need_an_actor_that_knows_convolutions(joining: Callable[..., Callable[[list[str]], str]]) -> None:
    join = joining(IMAGES)
    for kinds in ([], ["mlp"]):
        assert "knows encoders mlp, expected cnn too, as this run's policies have them; install covey" in join(kinds)
    assert not join(["mlp", "cnn"])
    assert not join(known_kinds())


def test_an_actor_that_names_none_serves_mlps(joining: Callable[..., Callable[[list[str]], str]]) -> None:
    join = joining(IMAGES, kind="mlp")
    assert not join([])


def test_modules_need_an_actor_with_torch(joining: Callable[..., Callable[[list[str]], str]]) -> None:
    join = joining(NUMBERS, module=MODULE)
    said = join(["mlp", "cnn"])
    assert "expected torch too" in said and "--ops torch and --allow-module" in said
    assert not join(["mlp", "cnn", "torch"])
