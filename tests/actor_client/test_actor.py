"""An actor against a scripted learner: orders, resends, breaks, refusals, and the ways it ends."""

from __future__ import annotations

import time

import grpc
import pytest
from tests.support.processes import until
from tests.support.running_actors import Running
from tests.support.scripted_learner import CONFIG, SPACES, ScriptedLearner
from tests.support.scripted_orders import POLICIES, SHAS, order

from covey.collect.fragment import most_repeated_rows
from covey.errors import ConfigError, CoveyError, EnvironmentLoadError, RefusedError, SpaceError, UnreachableError
from covey.rows import RowSchema
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import fragment_pb2
from covey.wire.versions import SPOKEN, Versions
from covey_actor.connection import FETCH_DEADLINE_S
from covey_actor.process import Actor, ActorOptions


def test_it_joins_with_its_spaces_and_answers_each_order_once(learner: ScriptedLearner) -> None:
    learner.joined.heartbeat_interval_s = 0.5
    running = Running(learner.address)
    request = learner.join()
    assert request.actor_id == "a1" and request.incarnation and request.protocol_version == 1
    assert (request.train_slots, request.eval_slots, request.first_held_seq) == (2, 1, 1)
    assert [a.agent_id for a in request.spaces.agents] == list(SPACES.agent_ids)
    work = learner.stream()
    assert work.hello == "s1"
    work.order(order(11))
    work.order(order(12))
    first, second = work.fragment(), work.fragment()
    assert [(f.seq, f.order_id, f.streams[0].steps) for f in (first, second)] == [(1, 11, 3), (2, 12, 3)]
    assert sorted(learner.fetched) == sorted(SHAS), "each policy once"
    assert learner.fetches == 1, "all in one call"
    work.ack(2)
    beat = work.heartbeat()
    assert 20e6 < beat.rss_bytes < 2e9
    work.drain()
    assert work.finish().last_seq == 2
    assert running.ended() is None


@pytest.mark.parametrize(("fitting", "slots"), [(1.5, 1), (2.0, 2), (9.0, 2)])
def test_it_joins_with_as_many_training_slots_as_fit_into_a_fragment(
    learner: ScriptedLearner, monkeypatch: pytest.MonkeyPatch, fitting: float, slots: int
) -> None:
    schema = RowSchema.of(SPACES)
    per_slot = (4 + most_repeated_rows(SPACES)) * schema.row_bytes
    monkeypatch.setattr("covey.collect.collector.MAX_RAW_BYTES", int(fitting * per_slot))
    running = Running(learner.address)
    assert learner.join().train_slots == slots
    work = learner.stream()
    assert work.hello
    work.drain()
    work.finish()
    assert running.ended() is None


def test_a_learner_that_falls_silent_in_a_fetch_is_joined_again(learner: ScriptedLearner) -> None:
    learner.joined.heartbeat_interval_s = 0.3
    learner.fetches_hang, learner.heartbeats = True, False
    running = Running(learner.address)
    learner.join()
    learner.stream().order(order(1))
    again = learner.joins.get(timeout=FETCH_DEADLINE_S / 2)
    assert list(again.held_order_ids) == [1], "nobody waits for the fetch's own deadline"
    learner.fetches_hang, learner.heartbeats = False, True
    work = learner.stream()
    assert work.fragment().order_id == 1
    work.ack(1)
    work.drain()
    work.finish()
    assert running.ended() is None


def test_orders_are_in_heartbeats_and_silence_is_filled_with_them(learner: ScriptedLearner) -> None:
    learner.joined.heartbeat_interval_s = 0.3
    running = Running(learner.address)
    work = learner.stream()
    work.order(order(1))
    work.fragment()
    until(lambda: work.heartbeat().outbox_fragments == 1)
    work.ack(1)
    work.drain(run_complete=True)
    work.finish()
    assert running.ended() is None


def test_after_a_break_it_resends_what_was_not_received_and_keeps_its_orders(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    incarnation = learner.join().incarnation
    work = learner.stream()
    for i in (1, 2, 3):
        work.order(order(i))
    sent = [work.fragment() for _ in range(3)]
    work.ack(1)
    until(lambda: running.actor._outbox.first_held_seq == 2)
    learner.joined.resume_after_seq = 2
    work.down.put(None)  # the stream ends as if the learner hung up
    again = learner.join()
    assert (again.incarnation, again.first_held_seq, list(again.held_order_ids)) == (incarnation, 2, [2, 3])
    work = learner.stream()
    resent = work.fragment()
    assert resent == sent[2], "resent unchanged, byte for byte"
    work.order(order(4))
    assert work.fragment().seq == 4
    work.ack(4)
    work.drain()
    assert work.finish().last_seq == 4
    assert running.ended() is None


def test_a_learner_that_restarts_on_its_port_gets_what_was_not_durable(
    learner: ScriptedLearner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="covey.actor")
    running = Running(learner.address)
    work = learner.stream()
    for i in (1, 2, 3):
        work.order(order(i))
        work.fragment()
    work.ack(3, durable=1)
    until(lambda: running.actor._outbox.delivered)
    learner.stop()
    time.sleep(0.3)
    reborn = ScriptedLearner(learner.port)
    reborn.policies = dict(POLICIES)
    reborn.joined.epoch, reborn.joined.session, reborn.joined.resume_after_seq = 2, "s2", 1
    work = reborn.stream()
    assert work.hello == "s2" and reborn.join().first_held_seq == 2
    assert len([m for m in caplog.messages if "trying again" in m]) == 1, "one word, however often it was tried"
    assert any("back after" in m for m in caplog.messages)
    assert [work.fragment().seq, work.fragment().seq] == [2, 3]
    work.order(order(77))
    last = work.fragment()
    assert (last.seq, last.order_id) == (4, 77)
    assert not reborn.fetched, "policies are known by their hash, whoever serves them"
    work.ack(4)
    work.drain(run_complete=True)
    work.finish()
    assert running.ended() is None
    reborn.stop()


def test_a_gap_makes_it_send_again(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    work = learner.stream()
    for i in (1, 2, 3):
        work.order(order(i))
    sent = [work.fragment() for _ in range(3)]
    work.ack(1, resend_from_seq=2)
    assert [work.fragment(), work.fragment()] == sent[1:]
    work.ack(3)
    work.drain()
    work.finish()
    assert running.ended() is None


def test_large_fragments_go_in_parts(learner: ScriptedLearner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covey_actor.connection.PART_BYTES", 300)
    running = Running(learner.address)
    work = learner.stream()
    work.order(order(1, steps=40))
    fragment = work.fragment()
    assert fragment.ByteSize() > 600 and fragment.streams[0].steps == 40
    work.ack(1)
    work.drain()
    work.finish()
    assert running.ended() is None


def test_drain_ends_the_order_in_work_and_answers_those_that_wait(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    work = learner.stream()
    work.order(order(1, steps=4096))
    work.order(order(2))
    until(lambda: len(running.actor.held_order_ids()) == 2 and len(learner.fetched) == 3)
    work.drain()
    first, second = work.fragment(), work.fragment()
    assert first.shortfall == second.shortfall == fragment_pb2.SHORTFALL_DRAIN
    assert sum(s.steps for s in first.streams) < 4096
    assert (second.order_id, list(second.streams)) == (2, [])
    assert work.up.empty() or isinstance(work.up.queue[0], pb.Heartbeat), "Finish only when all is received"
    work.ack(2)
    finish = work.finish()
    assert (finish.last_seq, finish.reason) == (2, "drained")
    assert running.ended() is None


def test_leaving_by_itself_delivers_first(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    work = learner.stream()
    work.order(order(1, steps=4096))
    until(lambda: len(learner.fetched) == 3)
    running.actor.leave("SIGTERM")
    assert work.fragment().order_id == 1
    work.ack(1)
    assert work.finish().reason == "SIGTERM"
    assert running.ended() is None


def test_a_complete_run_ends_well_even_if_the_learner_is_gone_at_once(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    work = learner.stream()
    work.drain(run_complete=True)
    until(running.actor._leave.is_set)
    learner.stop()
    assert running.ended() is None


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (pb.StreamError.CODE_FENCED, "fenced"),
        (pb.StreamError.CODE_QUARANTINED, "quarantined"),
        (pb.StreamError.CODE_PROTOCOL, "protocol"),
    ],
)
def test_sent_away_means_refused(learner: ScriptedLearner, code: pb.StreamError.Code.ValueType, word: str) -> None:
    running = Running(learner.address)
    learner.stream().error(code, "because")
    error = running.ended()
    assert isinstance(error, RefusedError) and f"{word}: because" in str(error)


def test_an_unknown_session_means_join_again(learner: ScriptedLearner) -> None:
    running = Running(learner.address)
    learner.stream().error(pb.StreamError.CODE_UNKNOWN_SESSION)
    work = learner.stream()
    work.drain()
    work.finish()
    assert running.ended() is None
    assert learner.joins.qsize() == 2


def test_a_learner_that_falls_silent_is_joined_again(learner: ScriptedLearner) -> None:
    learner.joined.heartbeat_interval_s = 0.2
    running = Running(learner.address)
    learner.stream()
    learner.heartbeats = False
    learner.stream()
    learner.heartbeats = True
    learner.streams.queue.clear()
    running.actor.leave("enough")
    assert running.ended() is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, SpaceError),
        (grpc.StatusCode.FAILED_PRECONDITION, RefusedError),
    ],
)
def test_a_refused_join_ends_it(learner: ScriptedLearner, status: grpc.StatusCode, error: type[CoveyError]) -> None:
    learner.refuse_join = status, "spaces of agent 'x' differ"
    running = Running(learner.address)
    raised = running.ended()
    assert type(raised) is error and "spaces of agent 'x' differ" in str(raised)


def test_another_schema_or_protocol_is_refused(learner: ScriptedLearner) -> None:
    learner.joined.schema_hash = b"x" * 16
    assert isinstance(error := Running(learner.address).ended(), RefusedError) and "row schema" in str(error)
    learner.protocol_version = 99
    error = Running(learner.address).ended()
    assert isinstance(error, RefusedError) and f"the actor speaks protocol {SPOKEN}, the learner version 99" in str(
        error
    )
    assert "install a newer covey on the actor's side" in str(error)


@pytest.mark.parametrize(("answered", "agreed"), [(1, 0), (2, 2), (3, 3), (4, 4), (5, 0)])
def test_it_speaks_the_version_that_describe_answers_if_it_can(
    learner: ScriptedLearner, monkeypatch: pytest.MonkeyPatch, answered: int, agreed: int
) -> None:
    monkeypatch.setattr("covey_actor.connection.SPOKEN", Versions(2, 4))
    learner.protocol_version = answered
    running = Running(learner.address)
    if agreed:
        assert learner.join().protocol_version == agreed
        work = learner.stream()
        work.drain()
        work.finish()
        assert running.ended() is None
    else:
        error = running.ended()
        behind = "learner" if answered < 2 else "actor"
        assert isinstance(error, RefusedError) and f"a newer covey on the {behind}'s side" in str(error)
    assert [(r.protocol_version, r.oldest_protocol_version) for r in learner.descriptions] == [(4, 2)]


def test_an_environment_off_the_allow_list_is_not_imported(learner: ScriptedLearner) -> None:
    error = Running(learner.address, allow_env=()).ended()
    assert isinstance(error, EnvironmentLoadError) and error.exit_code == 3
    assert "--allow-env tests.support.environments:counter or --env tests.support.environments:counter" in str(error)
    assert learner.joins.empty()


def test_its_own_environment_is_used_with_the_learners_arguments(learner: ScriptedLearner) -> None:
    learner.environment.entry_point = "os:system"
    running = Running(learner.address, allow_env=(), env="tests.support.environments:CounterEnv")
    work = learner.stream()
    work.order(order(1, steps=CONFIG["length"]))
    assert work.fragment().episodes[0].length == CONFIG["length"]
    work.ack(1)
    work.drain()
    work.finish()
    assert running.ended() is None


def test_arguments_that_are_no_json_object_are_refused(learner: ScriptedLearner) -> None:
    for text in ("[1]", "{", "{" * 100_000):
        learner.environment.config_json = text
        error = Running(learner.address).ended()
        assert isinstance(error, EnvironmentLoadError) and "JSON object" in str(error)


def test_a_learner_that_is_not_there_is_given_up_in_time() -> None:
    nobody = ScriptedLearner()
    nobody.stop()
    error = Running(nobody.address, max_reconnect_s=0.5).ended()
    assert isinstance(error, UnreachableError) and nobody.address in str(error)


def test_a_learner_that_goes_for_good_is_given_up_in_time(learner: ScriptedLearner) -> None:
    running = Running(learner.address, max_reconnect_s=0.5)
    learner.stream()
    learner.stop()
    assert isinstance(running.ended(), UnreachableError)


def test_waiting_for_a_learner_can_be_ended() -> None:
    nobody = ScriptedLearner()
    nobody.stop()
    running = Running(nobody.address)
    time.sleep(0.2)
    running.actor.leave("SIGINT")
    assert running.ended() is None


def test_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="--name 'a b'"):
        Actor(ActorOptions(learner="127.0.0.1:1", name="a b"))
    with pytest.raises(ConfigError, match="HOST:PORT"):
        Actor(ActorOptions(learner="nowhere"))
