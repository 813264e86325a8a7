"""Every method of a real learner, called by somebody who means harm; an honest actor works on all the while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from tests.fuzz.rpcs import methods, siege
from tests.support.processes import PATIENCE_S, write_config
from tests.support.scripted_actor import ScriptedActor

from covey.config import load_config
from covey.resources import rss_bytes
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


BOXES = everywhere(Box("float32", (1024,), (0.0,) * 1024, (1.0,) * 1024), 32)


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"learner": {"max_memory_bytes": 1 << 30}}, "and a full replay memory 8,1"),
        ({"learner": {"max_memory_bytes": 1 << 24}, "replay_buffer": {"max_size": 50}}, "in the 1 members"),
        ({"learner": {"max_memory_bytes": 1 << 28}, "training": {"pop_size": 64}}, "in the 64 members"),
        ({"replay_buffer": {"max_bytes": 1 << 20}}, "rows of"),
    ],
)
def test_a_join_that_is_refused_takes_no_memory(tmp_path: Path, sections: dict[str, Any], says: str) -> None:
    sections = {"algorithm": {"name": "MADDPG"}} | sections
    sections["training"] = {"pop_size": 1} | sections.get("training", {})
    with learner(tmp_path, **sections) as process:
        actor = ScriptedActor(process.address)
        refusal(actor, spaces=everywhere(Discrete(1 << 20), 64))  # whatever the first call takes
        before = rss_bytes()
        for _ in range(3):
            sentence = refusal(actor, spaces=BOXES)
            assert says in sentence and "raise" in sentence
        assert rss_bytes() - before < 32 << 20
        assert process.learner.population is None


def test_a_join_that_is_taken_takes_what_was_counted_and_no_rows_that_never_came(tmp_path: Path) -> None:
    with learner(tmp_path, algorithm={"name": "MADDPG"}, training={"pop_size": 1}) as process:
        actor = ScriptedActor(process.address)
        before = rss_bytes()
        actor.join(spaces=BOXES)
        assert rss_bytes() - before < 640 << 20
        actor.vanish()


@contextlib.contextmanager
def learner(path: Path, **sections: Any) -> Iterator[LearnerProcess]:
    """A learner of this configuration."""
    config = load_config(write_config(path / "sized.yaml", **sections))
    process = LearnerProcess(config, new_run(config, path / "runs"))
    process.start()
    try:
        yield process
    finally:
        process.stop()


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
