"""Hostile calls of every method that a learner serves, and what it may answer.

`python -m tests.fuzz.rpcs CALLS` makes so many and prints the statuses by method as JSON.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.fuzz.mutate import spoil_bytes, spoil_message
from tests.fuzz.target import MAX_GROWTH_BYTES, check_sentence, peak_bytes
from tests.fuzz.wire import honest
from tests.support.processes import write_config
from tests.support.scripted_actor import ScriptedActor

from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import population_service_pb2
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey.wire.channel import CLIENT_OPTIONS
from covey_server.app import LearnerProcess
from covey_server.security import rate_limit

DOCUMENTED = frozenset(
    ("OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNIMPLEMENTED")
)
"""Statuses that a peer of a learner without tokens may see."""

PATIENCE_S = 60.0
LISTENING_S = 0.2
FRAMES = 3
"""How long, and for how many answers, this client listens to a stream that may go on without end."""

_PYTHON = re.compile(r"\b[A-Za-z_]+(Error|Exception|Warning)\b|covey_server|protobuf|asyncio|Unexpected")
_ENDS_THE_RUN = "Shutdown"


class Method(NamedTuple):
    """A method, and the type of its requests."""

    path: str
    request: Descriptor
    streams_up: bool
    streams_down: bool


def methods() -> list[Method]:
    """All that are served."""
    files = (pb, population_service_pb2, health_pb2, reflection_pb2)
    return [
        Method(f"/{service.full_name}/{m.name}", m.input_type, m.client_streaming, m.server_streaming)
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for m in service.methods
    ]


def hostile_requests(rng: Random, method: Method, actual: dict[str, Message], session: str) -> list[bytes]:
    """One request, or the frames of a stream: bytes that mean nothing, spoilt messages, giants."""
    if method.path.endswith("/Work"):
        return _frames(rng, session)
    kind = GetMessageClass(method.request)
    message = actual.get(method.path, kind())
    if method.path.endswith(_ENDS_THE_RUN):
        return [b"\xff" + rng.randbytes(9)]
    draw = rng.random()
    if not method.request.fields and draw > 0.4:
        return [b""]
    if draw < 0.3 or not method.request.fields:
        return [rng.randbytes(rng.choice((1, 3, 40, 5000)))]
    if draw < 0.4:
        return [spoil_bytes(rng, message.SerializeToString())]
    if draw < 0.45:
        return [_giant(rng, method.request)]
    return [spoil_message(rng, message).SerializeToString() for _ in range(3 if method.streams_up else 1)]


def _giant(rng: Random, request: Descriptor) -> bytes:
    """A field with nearly, or over, all that a message may hold; text where there is text."""
    size = rng.choice((1 << 20, (4 << 20) - 100, 5 << 20))
    texts = [f for f in request.fields if f.type in (f.TYPE_STRING, f.TYPE_BYTES)]
    message = GetMessageClass(request)()
    if texts:
        field = rng.choice(texts)
        one: Any = "x" * (size if not field.is_repeated else 1000)
        value: Any = one.encode() if field.type == field.TYPE_BYTES else one
        if field.is_repeated:
            getattr(message, field.name).extend([value] * (size // 1000))
        else:
            setattr(message, field.name, value)
    return message.SerializeToString() or bytes(size)


def _frames(rng: Random, session: str) -> list[bytes]:
    hello = pb.ActorFrame(hello=pb.Hello(session=session)).SerializeToString()
    _, _, fragment, _ = honest(rng)
    frames = [] if rng.random() < 0.15 else [hello]
    for _ in range(rng.randrange(1, 6)):
        made = rng.choice(
            (
                pb.ActorFrame(fragment=spoil_message(rng, fragment)),
                pb.ActorFrame(fragment=fragment),
                pb.ActorFrame(heartbeat=pb.Heartbeat(rss_bytes=2**64 - 1)),
                pb.ActorFrame(hello=pb.Hello(session=rng.choice((session, "x" * 100_000, "")))),
                pb.ActorFrame(),
            )
        )
        frames.append(made.SerializeToString())
    if rng.random() < 0.3:
        frames.insert(rng.randrange(len(frames) + 1), rng.randbytes(rng.choice((1, 40, 3 << 20))))
    if rng.random() < 0.2:
        frames.append(pb.ActorFrame(finish=pb.Finish(last_seq=2**64 - 1, reason="\0" * 1000)).SerializeToString())
    return frames


def call(address: str, method: Method, requests: list[bytes]) -> str:
    """Make the call; the name of its status, once all that came back was found fit for a peer's eyes."""
    with grpc.insecure_channel(address, CLIENT_OPTIONS) as channel:
        try:
            for answer in _answers(channel, method, requests):
                check_answer(method, answer)
            return "OK"
        except grpc.RpcError as exc:
            assert isinstance(exc, grpc.Call)
            code, details = exc.code().name, exc.details() or ""
            if method.streams_down and code in ("DEADLINE_EXCEEDED", "CANCELLED"):
                return "still open"
            assert code in DOCUMENTED, f"{method.path}: {code} {details!r}"
            if details:
                check_words(method, details)
            return code


def _answers(channel: Any, method: Method, requests: list[bytes]) -> Iterator[bytes]:
    if not method.streams_down:
        yield channel.unary_unary(method.path)(requests[0], timeout=PATIENCE_S)
        return
    if method.streams_up:
        stream: Any = channel.stream_stream(method.path)(iter(requests), timeout=LISTENING_S)
    else:
        stream = channel.unary_stream(method.path)(requests[0], timeout=LISTENING_S)
    for seen, answer in enumerate(stream):
        yield answer
        if seen >= FRAMES:
            stream.cancel()
            return


def check_answer(method: Method, answer: bytes) -> None:
    """What is said in band."""
    if not method.path.endswith("/Work"):
        return
    frame = pb.LearnerFrame.FromString(answer)
    for text in (frame.error.message, *(r.detail for r in frame.ack.refusals)):
        if text:
            check_words(method, text)
            assert "internal error" not in text, text


def check_words(method: Method, text: str) -> None:
    """A sentence for a peer names nothing of the program's own."""
    check_sentence(text)
    found = _PYTHON.search(text)
    assert found is None, f"{method.path}: {found and found[0]!r} in {text[:300]!r}"


def siege(directory: Path, rng: Random, calls: int) -> dict[str, dict[str, int]]:
    """A learner under so many hostile calls, while an honest actor works; statuses by method.

    Raises:
        AssertionError: an answer that is not documented, internals in one, memory that grows, or an honest actor that
            cannot work on.
    """
    config = load_config(
        write_config(
            directory / "attacked.yaml",
            training={"max_steps": 100_000, "evo_steps": 50_000},
            learner={"heartbeat_interval_s": 60.0},
        )
    )
    process = LearnerProcess(config, new_run(config, directory / "runs"))
    process.start()
    actor, victim = ScriptedActor(process.address, "honest"), ScriptedActor(process.address, "victim")
    try:
        actor.join()
        _work(actor)
        before = peak_bytes()
        statuses = _attack(process.address, rng, calls, victim)
        assert peak_bytes() - before < MAX_GROWTH_BYTES
        with grpc.insecure_channel(process.address) as channel:  # one of the calls may have been Pause
            PopulationServiceStub(channel).Resume(population_service_pb2.ResumeRequest(), timeout=PATIENCE_S)
        _work(actor)
    finally:
        actor.vanish()
        victim.vanish()
        process.stop()
    return {path: dict(sorted(found.items())) for path, found in statuses.items()}


def _work(actor: ScriptedActor) -> None:
    fragment = actor.play(actor.order())
    ack = actor.ack(fragment)
    assert ack.received_seq == actor.seq and not ack.refusals


def _attack(address: str, rng: Random, calls: int, victim: ScriptedActor) -> dict[str, Counter[str]]:
    statuses: dict[str, Counter[str]] = {}
    served = methods()
    work = next(m for m in served if m.path.endswith("/Work"))
    others = itertools.cycle(m for m in served if m is not work)
    actual: dict[str, Message] = {"/covey.v1.ActorService/Join": victim.request()}
    for i in range(calls):
        # Every fourth call is the stream of fragments: there is most to do wrong.
        method = work if i % 4 == 3 else next(others)
        session = ""
        if method is work:  # quarantine ends a session: each has one of its own
            victim.incarnation += 1
            session = victim.stub.Join(victim.request(), timeout=PATIENCE_S).session
        requests = hostile_requests(rng, method, actual, session)
        try:
            status = call(address, method, requests)
        except AssertionError as exc:
            exc.add_note(f"{method.path} {[r[:200] for r in requests]}")
            raise
        statuses.setdefault(method.path, Counter())[status] += 1
    return statuses


if __name__ == "__main__":
    rate_limit.BURST = 1e9  # what is behind the limit on calls is what is looked at
    logging.disable()
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(siege(Path(scratch), Random(0), int(sys.argv[1]))))
