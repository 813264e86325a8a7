"""An actor that a test drives frame by frame, against a real learner over a real connection."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import grpc
from tests.support.processes import PATIENCE_S
from tests.support.scripted_play import ScriptedPlay

from covey.v1 import actor_service_pb2 as pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.channel import CLIENT_OPTIONS


class ScriptedActor(ScriptedPlay):
    """Joins like an honest actor; then sends exactly what it is told to."""

    def __init__(self, address: str, actor_id: str = "scripted", incarnation: int = 0) -> None:
        self.channel = grpc.insecure_channel(address, CLIENT_OPTIONS)
        self.stub = ActorServiceStub(self.channel)
        described = self.stub.Describe(pb.DescribeRequest(protocol_version=1), timeout=PATIENCE_S).environment
        super().__init__(described, self._fetch, actor_id, incarnation)
        self.frames: Iterator[pb.LearnerFrame] = iter(())
        self._up: queue.Queue[pb.ActorFrame | None] = queue.Queue()

    def _fetch(self, sha256: bytes) -> bytes:
        """The file of a policy."""
        chunks = self.stub.FetchPolicy(pb.FetchPolicyRequest(sha256=sha256), timeout=PATIENCE_S)
        return b"".join(c.data for c in chunks)

    def join(self, **changes: object) -> pb.JoinResponse:
        """Join, open the stream."""
        response: pb.JoinResponse = self.stub.Join(self.request(**changes), timeout=PATIENCE_S)
        self.open(response.session)
        self.seq = response.resume_after_seq
        return response

    def open(self, session: str) -> None:
        """Open a Work stream for a session."""
        self._up = queue.Queue()
        self._up.put(pb.ActorFrame(hello=pb.Hello(session=session)))
        self.frames = self.stub.Work(iter(self._up.get, None))

    def next(self, *kinds: str) -> pb.LearnerFrame:
        """The next frame of one of these kinds; others are skipped."""
        for frame in self.frames:
            if frame.WhichOneof("kind") in kinds:
                return frame
        raise AssertionError(f"stream ended before a frame of kind {' or '.join(kinds)}")

    def order(self) -> Order:
        """The next order, its policies fetched."""
        return self.fetch(self.next("order").order)

    def send(self, fragment: Fragment) -> None:
        """Send it as it is."""
        self._up.put(pb.ActorFrame(fragment=fragment))

    def beat(self) -> None:
        """Send a heartbeat."""
        self._up.put(pb.ActorFrame(heartbeat=pb.Heartbeat()))

    def ack(self, fragment: Fragment) -> pb.Ack:
        """Send it, and wait for the acknowledgement that covers it, or asks for another."""
        self.send(fragment)
        while True:
            ack = self.next("ack").ack
            if ack.received_seq >= fragment.seq or ack.resend_from_seq or ack.refusals:
                return ack

    def finish(self) -> None:
        """Say goodbye."""
        self._up.put(pb.ActorFrame(finish=pb.Finish(last_seq=self.seq)))
        self._up.put(None)

    def vanish(self) -> None:
        """Break the connection."""
        self.channel.close()
        self._up.put(None)
