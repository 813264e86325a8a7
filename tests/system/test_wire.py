"""What the learner makes of actors that repeat themselves, leave gaps, lie, or send rubbish; over real gRPC."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import zstandard
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.support.processes import PATIENCE_S, until, write_config
from tests.support.scripted_actor import ScriptedActor

from covey.cli.sources import RunningLearner
from covey.config import load_config
from covey.errors import AddressInUseError
from covey.rows import Columns
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import population_service_pb2 as population_pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey.v1.fragment_pb2 import Fragment
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey.wire.limits import MAX_MESSAGE_BYTES
from covey.wire.messages import spaces_to_proto
from covey.wire.versions import Versions
from covey_server.app import LearnerProcess
from covey_server.evolution.lineage import Lineage


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LearnerProcess]:
    """A learner that serves on a free port. Scripted actors send no heartbeats, so none is due unless a test asks."""
    training = {"max_steps": 100_000, "evo_steps": 50_000}
    learner = {"heartbeat_interval_s": getattr(request, "param", 600.0)}
    config = load_config(write_config(tmp_path / "wire.yaml", training=training, learner=learner))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def connect(process: LearnerProcess) -> Iterator[Callable[..., ScriptedActor]]:
    """Make actors that are gone when the test is over."""
    made: list[ScriptedActor] = []

    def new(actor_id: str = "scripted", incarnation: int = 0) -> ScriptedActor:
        made.append(ScriptedActor(process.address, actor_id, incarnation))
        return made[-1]

    yield new
    for actor in made:
        actor.vanish()


@pytest.fixture
def actor(connect: Callable[..., ScriptedActor]) -> ScriptedActor:
    """An actor that has joined."""
    actor = connect()
    actor.join()
    return actor


def status(process: LearnerProcess) -> population_pb.Status:
    """Asked as anybody would."""
    with grpc.insecure_channel(process.address) as channel:
        return PopulationServiceStub(channel).GetStatus(population_pb.GetStatusRequest(), timeout=PATIENCE_S).status


def steps(fragment: Fragment) -> int:
    return sum(s.steps for s in fragment.streams)


def test_an_honest_fragment_counts_once_however_often_it_is_sent(process: LearnerProcess, actor: ScriptedActor) -> None:
    fragment = actor.play(actor.order())
    assert actor.ack(fragment).received_seq == 1
    assert actor.ack(fragment).received_seq == 1
    answered = status(process)
    assert answered.env_steps == steps(fragment) == answered.replay_env_steps
    assert answered.counters["duplicate"] == 1


def test_a_gap_is_answered_with_the_number_expected(process: LearnerProcess, actor: ScriptedActor) -> None:
    first, second = actor.play(actor.order()), actor.play(actor.order())
    assert actor.ack(second).resend_from_seq == 1
    assert actor.ack(first).received_seq == 1
    assert actor.ack(second).received_seq == 2
    assert status(process).env_steps == steps(first) + steps(second)


def test_bytes_that_were_damaged_are_asked_for_again_and_then_refused(
    process: LearnerProcess, actor: ScriptedActor
) -> None:
    good = actor.play(actor.order())
    bad = Fragment()
    bad.CopyFrom(good)
    bad.blob = good.blob[:-3] + bytes(3)
    assert actor.ack(bad).resend_from_seq == 1
    assert actor.ack(good).received_seq == 1, "the intact copy is welcome"
    other = actor.play(actor.order())
    other.blob = other.blob[: len(other.blob) // 2]
    acks = [actor.ack(other) for _ in range(3)]
    assert [a.resend_from_seq for a in acks] == [2, 2, 0]
    assert acks[2].received_seq == 2 and acks[2].refusals[0].reason == "checksum"
    assert status(process).env_steps == steps(good)


def corrupt_nan(fragment: Fragment, actor: ScriptedActor) -> None:
    columns = rows_of(fragment, actor)
    columns["speaker/reward"] = np.full_like(columns["speaker/reward"], np.nan)
    fragment.blob, fragment.raw_bytes = actor.schema.encode(columns, 1)


def corrupt_action(fragment: Fragment, actor: ScriptedActor) -> None:
    columns = rows_of(fragment, actor)
    columns["listener/action"] = np.full_like(columns["listener/action"], 7)
    fragment.blob, fragment.raw_bytes = actor.schema.encode(columns, 1)


def corrupt_kind(fragment: Fragment, actor: ScriptedActor) -> None:
    columns = rows_of(fragment, actor)
    columns["kind"] = np.full_like(columns["kind"], 4)
    fragment.blob, fragment.raw_bytes = actor.schema.encode(columns, 1)


def corrupt_flag(fragment: Fragment, actor: ScriptedActor) -> None:
    columns = rows_of(fragment, actor)
    columns["speaker/terminated"] = np.full_like(columns["speaker/terminated"], 9)
    fragment.blob, fragment.raw_bytes = actor.schema.encode(columns, 1)


def corrupt_bomb(fragment: Fragment, actor: ScriptedActor) -> None:
    fragment.blob = zstandard.ZstdCompressor(level=1).compress(bytes(256 << 20))


def corrupt_schema(fragment: Fragment, actor: ScriptedActor) -> None:
    fragment.schema_hash = bytes(16)


def corrupt_steps(fragment: Fragment, actor: ScriptedActor) -> None:
    fragment.streams[0].steps += 1


def corrupt_slot(fragment: Fragment, actor: ScriptedActor) -> None:
    fragment.streams[0].slot = 99


def rows_of(fragment: Fragment, actor: ScriptedActor) -> Columns:
    count = sum(s.rows + s.lead_in_rows for s in fragment.streams)
    return dict(actor.schema.decode(fragment.blob, count, fragment.raw_bytes))


@pytest.mark.parametrize(
    ("corrupt", "reason"),
    [
        (corrupt_nan, "not_finite"),
        (corrupt_action, "action_range"),
        (corrupt_kind, "rows"),
        (corrupt_flag, "flags"),
        (corrupt_bomb, "size"),
        (corrupt_schema, "schema"),
        (corrupt_steps, "rows"),
        (corrupt_slot, "slot"),
    ],
)
def test_what_no_honest_actor_sends_is_refused_and_the_rest_goes_on(
    process: LearnerProcess,
    actor: ScriptedActor,
    corrupt: Callable[[Fragment, ScriptedActor], None],
    reason: str,
) -> None:
    good = actor.play(actor.order())
    actor.ack(good)
    bad = actor.play(actor.order())
    corrupt(bad, actor)
    ack = actor.ack(bad)
    assert ack.received_seq == 2 and [r.reason for r in ack.refusals] == [reason]
    assert "/" not in ack.refusals[0].detail or "Traceback" not in ack.refusals[0].detail
    after = actor.play(actor.order())
    assert actor.ack(after).received_seq == 3
    answered = status(process)
    assert answered.env_steps == steps(good) + steps(after), "nothing received before or after is lost"
    assert answered.counters["refused"] == 1


def test_three_lies_and_the_actor_is_sent_away(
    process: LearnerProcess, actor: ScriptedActor, connect: Callable[..., ScriptedActor]
) -> None:
    for _ in range(3):
        fragment = actor.play(actor.order())
        corrupt_nan(fragment, actor)
        actor.send(fragment)
    assert actor.next("error").error.code == pb.StreamError.CODE_QUARANTINED
    answered = status(process)
    assert "actor scripted was quarantined after 3 fragments that no honest actor sends" in " ".join(answered.events)
    assert (answered.counters["actors_quarantined"], answered.counters["refused_not_finite"]) == (1, 3)
    (listed,) = process.report.actors()
    assert (listed.state, listed.refused, listed.orders_out) == ("quarantined", 3, 0)
    with pytest.raises(grpc.RpcError) as caught:
        actor.stub.Join(actor.request(), timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION and "sent away" in (caught.value.details() or "")
    successor = connect()  # the run goes on, also with a new process of this name
    successor.join()
    assert successor.ack(successor.play(successor.order())).received_seq == 1


def test_other_spaces_are_refused_and_both_sides_are_named(
    process: LearnerProcess, actor: ScriptedActor, connect: Callable[..., ScriptedActor]
) -> None:
    del actor
    spaces = spaces_to_proto(connect().spaces)
    spaces.agents[0].action.discrete.n = 3
    with pytest.raises(grpc.RpcError) as caught:
        other = connect("other")
        other.join(spaces=spaces)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    text = caught.value.details() or ""
    assert "speaker_0" in text and "Discrete" in text and "Box" in text


def test_another_protocol_is_refused(process: LearnerProcess, connect: Callable[..., ScriptedActor]) -> None:
    actor = connect()
    with pytest.raises(grpc.RpcError) as caught:
        actor.join(protocol_version=99)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "99" in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("newest", "oldest", "agreed"),
    [(3, None, 3), (2, 1, 2), (9, 3, 4), (4, 4, 4), (1, None, "actor"), (1, 1, "actor"), (9, 5, "learner")],
)
def test_describe_agrees_on_the_newest_version_that_both_speak(
    process: LearnerProcess, monkeypatch: pytest.MonkeyPatch, newest: int, oldest: int | None, agreed: int | str
) -> None:
    monkeypatch.setattr("covey_server.attendance.SPOKEN", Versions(2, 4))
    request = pb.DescribeRequest(protocol_version=newest, oldest_protocol_version=oldest)
    with grpc.insecure_channel(process.address) as channel:
        if isinstance(agreed, int):
            assert ActorServiceStub(channel).Describe(request, timeout=PATIENCE_S).protocol_version == agreed
            return
        with pytest.raises(grpc.RpcError) as caught:
            ActorServiceStub(channel).Describe(request, timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    text = caught.value.details() or ""
    spoken = Versions(oldest or newest, newest)
    assert f"the actor speaks protocol {spoken}, the learner versions 2 to 4" in text
    assert f"install a newer covey on the {agreed}'s side" in text
    told = status(process)
    assert told.events[-1] == f"refused: {text}" and told.counters["versions_refused"] == 1


def test_a_new_process_takes_over_its_name_and_fences_the_old_one(
    process: LearnerProcess, actor: ScriptedActor, connect: Callable[..., ScriptedActor]
) -> None:
    held = actor.play(actor.order())
    successor = connect()
    successor.join()
    assert actor.next("error").error.code == pb.StreamError.CODE_FENCED
    fragment = successor.play(successor.order())
    assert successor.ack(fragment).received_seq == 1
    assert status(process).env_steps == steps(fragment), "the fenced actor's orders are void"
    del held


def test_a_broken_connection_loses_nothing_and_counts_nothing_twice(
    process: LearnerProcess, actor: ScriptedActor, connect: Callable[..., ScriptedActor]
) -> None:
    first = actor.play(actor.order())
    actor.ack(first)
    order = actor.order()
    second = actor.play(order)
    actor.vanish()
    again = connect(incarnation=actor.incarnation)
    response = again.stub.Join(again.request(first_held_seq=2, held_order_ids=[order.order_id]), timeout=PATIENCE_S)
    assert response.resume_after_seq == 1
    again.open(response.session)
    assert again.ack(second).received_seq == 2
    assert status(process).env_steps == steps(first) + steps(second)


def test_an_order_taken_back_is_final(
    process: LearnerProcess, actor: ScriptedActor, connect: Callable[..., ScriptedActor]
) -> None:
    fragment = actor.play(actor.order())
    actor.vanish()
    again = connect(incarnation=actor.incarnation)
    response = again.stub.Join(again.request(), timeout=PATIENCE_S)  # holds nothing any more
    again.open(response.session)
    ack = again.ack(fragment)
    assert [r.reason for r in ack.refusals] == ["revoked_order"]
    assert status(process).env_steps == 0


@pytest.mark.parametrize("process", [1.0], indirect=True)
def test_silence_is_noticed_within_two_heartbeat_intervals(process: LearnerProcess, actor: ScriptedActor) -> None:
    actor.order()
    events = until(lambda: [e for e in status(process).events if "silent" in e], what="the silence is noticed")
    # By the learner's own clock; what is above two seconds is how late a busy machine lets it look.
    assert re.search(r"scripted silent for [234] s", events[0]) and "steps wait for another actor" in events[0]
    until(lambda: not status(process).gauges["streams"], what="its stream is let go of, though it says nothing")
    assert status(process).counters["actors_lost"] == 1


def test_an_unknown_session_is_told_to_join(process: LearnerProcess, connect: Callable[..., ScriptedActor]) -> None:
    actor = connect()
    actor.open("nonsense")
    assert actor.next("error").error.code == pb.StreamError.CODE_UNKNOWN_SESSION


def test_a_policy_that_is_gone_is_not_found(process: LearnerProcess, actor: ScriptedActor) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(actor.stub.FetchPolicy(pb.FetchPolicyRequest(sha256=bytes(32)), timeout=PATIENCE_S))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_second_learner_on_the_same_port_is_an_error(process: LearnerProcess, tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path / "second.yaml", learner={"bind": process.address}))
    second = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    with pytest.raises(AddressInUseError, match="taken"):
        second.start()
    second.stop()


def test_a_third_party_client_finds_services_health_and_status(process: LearnerProcess) -> None:
    with grpc.insecure_channel(process.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"covey.v1.ActorService", "covey.v1.PopulationService", "grpc.health.v1.Health"} <= set(
            database.get_services()
        )
        health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert status(process).state == "waiting for the first actor"


def test_pause_stops_orders_and_resume_goes_on(process: LearnerProcess, actor: ScriptedActor) -> None:
    with grpc.insecure_channel(process.address) as channel:
        stub = PopulationServiceStub(channel)
        first = actor.order()
        second = actor.order()
        stub.Pause(population_pb.PauseRequest(), timeout=PATIENCE_S)
        actor.ack(actor.play(first))
        actor.ack(actor.play(second))
        answered = status(process)
        assert (
            answered.state == "paused"
            and next(iter(stub.ListActors(population_pb.ListActorsRequest()).actors)).orders_out == 0
        )
        stub.Resume(population_pb.ResumeRequest(), timeout=PATIENCE_S)
        assert actor.order().order_id > second.order_id
        path = stub.Checkpoint(population_pb.CheckpointRequest(), timeout=PATIENCE_S).path
        assert Path(path).is_dir()
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetMember(population_pb.GetMemberRequest(member_id=12345), timeout=PATIENCE_S)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        blobs = list(stub.DownloadMember(population_pb.DownloadMemberRequest(member_id=0), timeout=PATIENCE_S))
        assert {b.network_id for b in blobs} == {"speaker_0", "listener_0"}


def test_a_lineage_may_be_longer_than_a_message(process: LearnerProcess, actor: ScriptedActor) -> None:
    actor.order()
    population = process.learner.population
    assert population is not None
    living = population.lineage.living
    with process.learner.lock:
        dead = (replace(living[0], member_id=100 + i, died_generation=i) for i in range(10_000))
        population.lineage = Lineage([*living, *dead])
    members = RunningLearner(process.address).ask("lineage")["members"]
    assert [m["member_id"] for m in members] == [*(e.member_id for e in living), *range(100, 10_100)]
    assert [m["state"] for m in members] == ["collecting"] * len(living) + ["dead"] * 10_000
    assert sum(len(json.dumps(m)) for m in members) > MAX_MESSAGE_BYTES
    with grpc.insecure_channel(process.address) as channel:
        asked = population_pb.GetMemberRequest(member_id=10_099)
        assert PopulationServiceStub(channel).GetMember(asked, timeout=PATIENCE_S).member.died_generation == 9_999


@pytest.mark.parametrize(("fewer", "clause"), [(0, ""), (1, ", of the {} asked for"), (-1, "")])
def test_an_actor_with_fewer_slots_than_it_was_asked_for_is_told(
    process: LearnerProcess, connect: Callable[..., ScriptedActor], fewer: int, clause: str
) -> None:
    actor = connect()
    asked = actor.slots[0]
    actor.join(train_slots=asked - fewer)
    assert process.learner.events[-1] == (
        f"actor scripted joined with {asked - fewer} slots from test" + clause.format(asked)
    )
    [told] = process.report.actors()
    assert (told.slots, told.slots_asked) == (asked - fewer, asked)
