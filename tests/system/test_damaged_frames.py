"""What arrives damaged is sent again over a new connection: without TLS nothing else notices a flipped bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.support.processes import PATIENCE_S, write_config
from tests.support.scripted_actor import ScriptedActor

from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import Fragment
from covey.wire.envelope import envelope_crc32
from covey_server.app import LearnerProcess


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LearnerProcess]:
    """A learner that serves on a free port; scripted actors send no heartbeats, so none is due."""
    config = load_config(write_config(tmp_path / "wire.yaml", learner={"heartbeat_interval_s": 600.0}))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def actor(process: LearnerProcess) -> Iterator[ScriptedActor]:
    """An actor that has joined."""
    actor = ScriptedActor(process.address)
    actor.join()
    yield actor
    actor.vanish()


def flip_return(fragment: Fragment) -> None:
    fragment.episodes.add(slot=fragment.streams[0].slot, returns=[1.0, 2.0], length=3)


def flip_steps(fragment: Fragment) -> None:
    fragment.streams[0].steps ^= 1


def flip_order(fragment: Fragment) -> None:
    fragment.order_id ^= 1 << 20


@pytest.mark.parametrize("flip", [flip_return, flip_steps, flip_order])
def test_an_envelope_that_was_damaged_is_a_broken_connection_and_not_a_broken_actor(
    process: LearnerProcess, actor: ScriptedActor, flip: Callable[[Fragment], None]
) -> None:
    good = actor.play(actor.order())
    good.envelope_crc32 = envelope_crc32(good)
    for _ in range(4):  # more often than refused fragments are forgiven
        bad = Fragment()
        bad.CopyFrom(good)
        flip(bad)
        actor.send(bad)
        assert actor.next("error").error.code == pb.StreamError.CODE_UNKNOWN_SESSION
        assert actor.join(held_order_ids=[good.order_id], first_held_seq=1).resume_after_seq == 0
    assert actor.ack(good).received_seq == 1
    totals = process.learner.totals
    assert totals.env_steps == sum(s.steps for s in good.streams)
    assert totals.counters["damaged"] == 4 and not totals.counters["refused"]


def test_a_frame_that_cannot_be_read_is_a_broken_connection(process: LearnerProcess, actor: ScriptedActor) -> None:
    good = actor.play(actor.order())
    session = actor.join(held_order_ids=[good.order_id], first_held_seq=1).session
    with grpc.insecure_channel(process.address) as channel:
        send: Any = channel.stream_stream(
            "/covey.v1.ActorService/Work", response_deserializer=pb.LearnerFrame.FromString
        )
        hello = pb.ActorFrame(hello=pb.Hello(session=session)).SerializeToString()
        frames = list(send(iter([hello, b"\xff\xff\xff\x07junk"]), timeout=PATIENCE_S))
    assert frames[-1].error.code == pb.StreamError.CODE_UNKNOWN_SESSION
    actor.join(held_order_ids=[good.order_id], first_held_seq=1)
    assert actor.ack(good).received_seq == 1
