"""Every method of a real learner, called by somebody who means harm; an honest actor works on all the while."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import grpc
import pytest
from tests.fuzz.rpcs import methods, siege
from tests.support.processes import PATIENCE_S, write_config
from tests.support.scripted_actor import ScriptedActor

from covey.config import load_config
from covey.run.new_run import new_run
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, Space
from covey.v1.environment_pb2 import EnvironmentSpaces as SpacesMessage
from covey.v1.population_service_pb2 import DrainActorRequest, GetStatusRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey.wire.messages import spaces_to_proto
from covey_server.app import LearnerProcess
from covey_server.security import rate_limit


def test_hostile_calls_are_answered_in_documented_words_and_honest_actors_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is behind the limit on calls is what is looked at.
    monkeypatch.setattr(rate_limit, "BURST", 1e9)
    statuses = siege(tmp_path, Random(0), 160)
    assert set(statuses) == {m.path for m in methods()}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LearnerProcess]:
    """A learner that nobody has joined."""
    config = load_config(write_config(tmp_path / "first.yaml"))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    process.start()
    yield process
    process.stop()


def everywhere(space: Space, agents: int) -> SpacesMessage:
    """So many agents of one space."""
    return spaces_to_proto(EnvironmentSpaces.build([AgentSpec(f"a_{i}x", space, Discrete(2)) for i in range(agents)]))


def refusal(actor: ScriptedActor, **changes: object) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        actor.join(**changes)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.details() or ""


def test_a_first_join_cannot_ask_for_more_memory_than_there_is(process: LearnerProcess) -> None:
    actor = ScriptedActor(process.address)
    box = Box("uint8", (1 << 13,), (0.0,) * (1 << 13), (1.0,) * (1 << 13))
    assert "numbers in the Boxes of all agents" in refusal(actor, spaces=everywhere(box, 1000))
    assert "parameters" in refusal(actor, spaces=everywhere(Discrete(1 << 20), 8))
    actor.join()
    assert actor.order().slots, "a refused Join leaves nothing behind"
    actor.vanish()


def test_long_and_unprintable_names_stay_out_of_answers(process: LearnerProcess) -> None:
    actor = ScriptedActor(process.address)
    actor.join(hostname="[/red]\x1b[31m\n" + "x" * 3_000_000)
    with grpc.insecure_channel(process.address) as channel:
        stub = PopulationServiceStub(channel)
        status = stub.GetStatus(GetStatusRequest(), timeout=PATIENCE_S).status
        assert all(e.isprintable() and len(e) < 2000 for e in status.events)
        with pytest.raises(grpc.RpcError) as caught:
            stub.DrainActor(DrainActorRequest(actor_id="x" * 3_000_000), timeout=PATIENCE_S)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    actor.vanish()
