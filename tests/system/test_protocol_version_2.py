"""Which protocol version a run needs: spaces that are trees need version 2, all others are served in version 1 too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.processes import PATIENCE_S, write_config
from tests.support.tree_environments import MaskedTrees, ReadableTrees

from covey.config import load_config
from covey.envs.reading import read_spaces
from covey.run.new_run import new_run
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space
from covey.v1 import actor_service_pb2 as pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey.wire.messages import spaces_to_proto
from covey.wire.versions import SPOKEN, needed_version
from covey_server.app import LearnerProcess

PLAIN = EnvironmentSpaces.build([AgentSpec("a_0", Box("float32", (3,), (-1.0,) * 3, (1.0,) * 3), Discrete(3))])
TREES = read_spaces(ReadableTrees())


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ActorServiceStub]]:
    """Start a learner with changes to the section `environment`, and give a stub that calls it."""
    ends: list[Callable[[], Any]] = []

    def start(algorithm: Mapping[str, Any] | None = None, **environment: object) -> ActorServiceStub:
        section = {"name": "tests.support.tree_environments:MaskedTrees", **environment}
        config = load_config(write_config(tmp_path / "job.yaml", environment=section, algorithm=dict(algorithm or {})))
        process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
        process.start()
        channel = grpc.insecure_channel(process.address)
        ends.extend((channel.close, process.stop))
        return ActorServiceStub(channel)

    yield start
    for end in ends:
        end()


def join(stub: ActorServiceStub, spaces: EnvironmentSpaces, version: int, incarnation: int) -> pb.JoinResponse:
    request = pb.JoinRequest(
        protocol_version=version,
        actor_id=f"actor-{incarnation}",
        incarnation=incarnation,
        spaces=spaces_to_proto(spaces),
        train_slots=1,
        eval_slots=1,
    )
    return stub.Join(request, timeout=PATIENCE_S)


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    return str(caught.value.details())


def describe(stub: ActorServiceStub, version: int) -> pb.DescribeResponse:
    return stub.Describe(pb.DescribeRequest(protocol_version=version, oldest_protocol_version=1), timeout=PATIENCE_S)


def test_a_run_without_trees_serves_both_versions(serve: Callable[..., ActorServiceStub]) -> None:
    stub = serve()
    assert [describe(stub, version).protocol_version for version in (1, 2, 9)] == [1, 2, SPOKEN.newest]
    first, second = join(stub, PLAIN, 1, 1), join(stub, PLAIN, 2, 2)
    assert first.schema_hash == second.schema_hash
    assert describe(stub, 1).protocol_version == 1


def test_trees_are_said_in_version_2_alone(serve: Callable[..., ActorServiceStub]) -> None:
    stub = serve()
    assert "speaks protocol version 1, expected 2" in refusal(lambda: join(stub, TREES, 1, 1))
    join(stub, TREES, 2, 2)
    text = refusal(lambda: describe(stub, 1))
    assert "the actor speaks protocol version 1, the learner version 2, " in text
    assert "install a newer covey on the actor's side" in text
    assert describe(stub, 2).protocol_version == 2


def test_parts_that_are_left_out_need_an_actor_that_leaves_them_out(serve: Callable[..., ActorServiceStub]) -> None:
    stub = serve(ignore_observations=["mission"])
    assert "the learner version 2, " in refusal(lambda: describe(stub, 1))
    told = describe(stub, 2).environment.ignore_observations
    assert list(told) == ["mission"]
    join(stub, read_spaces(MaskedTrees(), ignored=told), 2, 1)


@pytest.mark.parametrize("name", ["MATD3", "IPPO"])
def test_normalised_policies_need_an_actor_that_reads_by_their_statistics(
    serve: Callable[..., ActorServiceStub], name: str
) -> None:
    text = refusal(lambda: describe(serve({"name": name, "normalize_observations": True}), 1))
    assert "in a run that sets algorithm.normalize_observations" in text
    assert "the actor speaks protocol version 1, the learner version 2" in text


@pytest.mark.parametrize(
    ("space", "version"),
    [
        (MultiDiscrete((2, 3)), 1),
        (MultiDiscrete((2, 3), start=(0, 1)), 2),
        (MultiDiscrete((2, 3, 2, 2), (2, 2)), 2),
        (MultiBinary(4), 1),
        (MultiBinary(4, (2, 2)), 2),
        (TREES.agents[0].observation, 2),
    ],
)
def test_which_version_a_space_needs(space: Space, version: int) -> None:
    assert needed_version(EnvironmentSpaces.build([AgentSpec("a_0", space, Discrete(2))])) == version
    assert needed_version(EnvironmentSpaces.build([AgentSpec("a_0", Discrete(2), space)])) == version


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ({"frame_stack": 3}, {"frame_stack": 3}),
        ({"state": True}, {"state": Box("int16", (2,), (0.0,) * 2, (9.0,) * 2)}),
    ],
)
def test_frame_stacks_and_states_need_actors_of_version_2_that_do_as_asked(
    serve: Callable[..., ActorServiceStub], section: dict[str, Any], changes: dict[str, Any]
) -> None:
    (key,) = section
    stub = serve(**section)
    assert f"in a run that sets environment.{key}" in (text := refusal(lambda: describe(stub, 1)))
    assert "the learner version 2" in text
    assert getattr(describe(stub, 2).environment, key) == section[key]
    asked = EnvironmentSpaces.build(PLAIN.agents, **changes)
    assert needed_version(asked) == 2
    with pytest.raises(grpc.RpcError, match=f"expected .* as environment.{key}, which Describe says"):
        join(stub, PLAIN, 2, 1)
    assert join(stub, asked, 2, 2).schema_hash


def test_what_a_run_did_not_ask_for_is_refused(serve: Callable[..., ActorServiceStub]) -> None:
    stub = serve()
    with pytest.raises(grpc.RpcError, match="frame_stack 3 in its spaces, expected 1"):
        join(stub, EnvironmentSpaces.build(PLAIN.agents, frame_stack=3), 2, 1)
    with pytest.raises(grpc.RpcError, match="a state in its spaces, expected none"):
        join(stub, EnvironmentSpaces.build(PLAIN.agents, state=Box("int16", (2,), (0.0,) * 2, (9.0,) * 2)), 2, 1)
    with pytest.raises(grpc.RpcError, match=r"environment.frame_stack: 3, but agents of this environment wait"):
        proto = spaces_to_proto(EnvironmentSpaces.build(PLAIN.agents, asynchronous=True))
        proto.frame_stack = 3
        request = pb.JoinRequest(protocol_version=2, actor_id="a", incarnation=3, spaces=proto, train_slots=1)
        stub.Join(request, timeout=PATIENCE_S)
