"""What one peer may take up of a learner, and what it hears when it asks for more."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from tests.support.processes import PATIENCE_S
from tests.support.secured_learner import METHODS, attempt, call, serving

from covey.errors import RefusedError, StorageError, UnreachableError
from covey.v1 import actor_service_pb2 as pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey.wire.channel import SERVER_OPTIONS, connect
from covey.wire.limits import MAX_MESSAGE_BYTES
from covey_server.app import LearnerProcess
from covey_server.security import rate_limit
from covey_server.security.rate_limit import BURST, CALLS_PER_S, MAX_HOSTS, RateLimit
from covey_server.serving import actor_service

CHECK = next(m for m in METHODS if m.name == "Check")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LearnerProcess]:
    with serving(tmp_path_factory.mktemp("limits")) as process:
        yield process


@pytest.fixture
def channel(process: LearnerProcess) -> Iterator[grpc.Channel]:
    with connect(process.address) as channel:
        yield channel


def test_a_host_has_so_many_calls_a_second_and_a_store_of_them() -> None:
    now, refused = [0.0], list[str]()
    limit = RateLimit(refused.append, lambda: now[0])
    for i in range(int(BURST)):
        limit.check(f"ipv4:10.0.0.1:{i}")  # whatever its connections
    for _ in range(3):
        with pytest.raises(UnreachableError, match="too many calls from one machine, expected at most 50 a second"):
            limit.check("ipv4:10.0.0.1:9")
    limit.check("ipv6:%5B2001:db8::1%5D:9")
    assert refused == ["rate_limited"] * 3
    now[0] += 2.0 / CALLS_PER_S
    limit.check("ipv4:10.0.0.1:9")
    limit.check("ipv4:10.0.0.1:9")
    with pytest.raises(UnreachableError):
        limit.check("ipv4:10.0.0.1:9")
    for i in range(2 * MAX_HOSTS):
        limit.check(f"ipv4:10.1.{i >> 8}.{i & 255}:1")
    assert len(limit._buckets) == MAX_HOSTS


@pytest.mark.parametrize("name", ["Check", "GetLineage"])
def test_who_calls_too_often_is_told_to_come_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = next(m for m in METHODS if m.name == name)
    monkeypatch.setattr(rate_limit, "BURST", 5.0)
    monkeypatch.setattr(rate_limit, "CALLS_PER_S", 1e-3)
    with serving(tmp_path) as process, connect(process.address) as channel:
        answers = [attempt(channel, method) for _ in range(8)]
        assert [code for code, _ in answers] == [grpc.StatusCode.OK] * 5 + [grpc.StatusCode.UNAVAILABLE] * 3
        assert "too many calls from one machine" in answers[-1][1]
        assert process.learner.totals.counters["rate_limited"] == 3


def test_metadata_and_messages_have_a_size(channel: grpc.Channel, process: LearnerProcess) -> None:
    assert call(channel, CHECK, metadata=[("x-large", "a" * 100)]) == grpc.StatusCode.OK
    assert call(channel, CHECK, metadata=[("x-large", "a" * 20_000)]) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(channel, CHECK) == grpc.StatusCode.OK
    large = health_pb2.HealthCheckRequest(service="a" * MAX_MESSAGE_BYTES).SerializeToString()
    with grpc.insecure_channel(process.address) as unbounded:
        code, sentence = attempt(unbounded, CHECK, large)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in sentence


@pytest.mark.parametrize("method", [m for m in METHODS if not m.client_streaming], ids=lambda m: m.name)
def test_what_cannot_be_parsed_is_answered_without_the_parsers_words(channel: grpc.Channel, method: Any) -> None:
    code, sentence = attempt(channel, method, b"\xff\xff\xff\x07junk")
    if method.containing_service.full_name.startswith("grpc.reflection"):
        return
    assert code == grpc.StatusCode.UNAVAILABLE  # it may have been damaged on the way: an actor sends it again
    assert sentence.startswith("request: arrived damaged, or is not of this method's type; send it again")


def test_a_stream_of_junk_ends_without_internals(channel: grpc.Channel) -> None:
    for name in ("Work", "ServerReflectionInfo"):
        method = next(m for m in METHODS if m.name == name)
        _, sentence = attempt(channel, method, b"\xff\xff\xff\x07junk")
        assert not any(word in sentence for word in ("DecodeError", "protobuf", "Traceback", "/work", ".py")), sentence


SECRET = "/etc/secret: No space left on device"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            RuntimeError(SECRET),
            grpc.StatusCode.INTERNAL,
            r"internal error [0-9a-f]{8}; the learner's log has the details",
        ),
        (
            StorageError(SECRET),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            r"the learner's disk cannot be used \([0-9a-f]{8}\)",
        ),
        (TimeoutError(SECRET), grpc.StatusCode.DEADLINE_EXCEEDED, "the learner is busy"),
        (
            RefusedError("run is over, expected a paused one"),
            grpc.StatusCode.FAILED_PRECONDITION,
            "run is over, expected",
        ),
    ],
)
@pytest.mark.parametrize("name", ["GetStatus", "WatchStatus"])
def test_what_goes_wrong_inside_stays_inside(
    process: LearnerProcess,
    channel: grpc.Channel,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    code: grpc.StatusCode,
    says: str,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(process.report, "status", fail)
    got, sentence = attempt(channel, next(m for m in METHODS if m.name == name))
    assert got == code and re.match(says, sentence) and "secret" not in sentence


def test_what_goes_wrong_in_an_actors_stream_stays_inside(
    process: LearnerProcess, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(process.learner.sessions, "by_token", fail)
    (frame,) = ActorServiceStub(channel).Work(iter([pb.ActorFrame(hello=pb.Hello(session="s"))]), timeout=PATIENCE_S)
    assert frame.error.code == pb.StreamError.CODE_PROTOCOL and frame.error.message == "internal error; see the log"


def test_a_stream_that_does_not_say_whose_it_is_ends(channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actor_service, "HELLO_S", 0.2)
    silent: queue.Queue[pb.ActorFrame | None] = queue.Queue()
    (frame,) = ActorServiceStub(channel).Work(iter(silent.get, None), timeout=PATIENCE_S)
    assert frame.error.code == pb.StreamError.CODE_UNKNOWN_SESSION and "no hello came" in frame.error.message
    silent.put(None)


def test_a_stream_that_lies_about_its_session_ends(channel: grpc.Channel) -> None:
    hello = pb.ActorFrame(hello=pb.Hello(session="guessed"))
    (frame,) = ActorServiceStub(channel).Work(iter([hello]), timeout=PATIENCE_S)
    assert frame.error.code == pb.StreamError.CODE_UNKNOWN_SESSION


def test_watching_health_is_a_stream_that_works(channel: grpc.Channel) -> None:
    watch = next(m for m in METHODS if m.name == "Watch")
    assert call(channel, watch) == grpc.StatusCode.OK


def test_every_bound_of_a_connection_is_set() -> None:
    assert {
        "grpc.max_receive_message_length",
        "grpc.max_concurrent_streams",
        "grpc.max_allowed_incoming_connections",
        "grpc.max_connection_idle_ms",
        "grpc.max_metadata_size",
        "grpc.absolute_max_metadata_size",
        "grpc.server_handshake_timeout_ms",
        "grpc.http2.lookahead_bytes",
    } <= dict(SERVER_OPTIONS).keys()
