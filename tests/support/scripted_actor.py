"""An actor that a test drives frame by frame, against a real learner over a real connection."""

from __future__ import annotations

import json
import queue
import secrets
from collections.abc import Iterator

import grpc
from tests.support.processes import PATIENCE_S

from covey.acting import LoadedPolicy
from covey.collect import Collector
from covey.envs import build_slots, load_environment, read_spaces
from covey.rows import RowSchema
from covey.v1 import actor_service_pb2 as pb
from covey.v1.actor_service_pb2_grpc import ActorServiceStub
from covey.v1.environment_pb2 import EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.channel import CLIENT_OPTIONS
from covey.wire.messages import spaces_to_proto
from covey.wire.policy_file import decode_policy


class ScriptedActor:
    """Joins like an honest actor; then sends exactly what it is told to."""

    def __init__(self, address: str, actor_id: str = "scripted", incarnation: int = 0) -> None:
        self.channel = grpc.insecure_channel(address, CLIENT_OPTIONS)
        self.stub = ActorServiceStub(self.channel)
        self.actor_id = actor_id
        self.incarnation = incarnation or secrets.randbits(63) | 1
        described = self.stub.Describe(pb.DescribeRequest(protocol_version=1), timeout=PATIENCE_S).environment
        make = load_environment(described.entry_point, json.loads(described.config_json))
        env = make()
        self.spaces = read_spaces(env, None)
        env.close()
        self.schema = RowSchema.of(self.spaces)
        self.slots = described.train_slots, described.eval_slots
        slots = build_slots(make, self.spaces, sum(self.slots))
        self.collector = Collector(slots, self.spaces, self.schema, self.slots[0], 1)
        self.seq = 0
        self.policies: dict[bytes, LoadedPolicy] = {}
        self.frames: Iterator[pb.LearnerFrame] = iter(())
        self._up: queue.Queue[pb.ActorFrame | None] = queue.Queue()

    def request(self, **changes: object) -> pb.JoinRequest:
        """A Join, honest but for the changes."""
        request = pb.JoinRequest(
            protocol_version=1,
            actor_id=self.actor_id,
            incarnation=self.incarnation,
            spaces=spaces_to_proto(self.spaces),
            train_slots=self.slots[0],
            eval_slots=self.slots[1],
            hostname="test",
        )
        for name, value in changes.items():
            if isinstance(value, EnvironmentSpaces):
                request.spaces.CopyFrom(value)
            elif isinstance(value, list):
                getattr(request, name).extend(value)
            else:
                setattr(request, name, value)
        return request

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

    def next(self, kind: str) -> pb.LearnerFrame:
        """The next frame of a kind; others are skipped."""
        for frame in self.frames:
            if frame.WhichOneof("kind") == kind:
                return frame
        raise AssertionError(f"stream ended before a frame of kind {kind}")

    def order(self) -> Order:
        """The next order, its policies fetched."""
        return self.fetch(self.next("order").order)

    def fetch(self, order: Order) -> Order:
        """Fetch an order's policies."""
        for ref in order.policies:
            if ref.sha256 and ref.sha256 not in self.policies:
                chunks = self.stub.FetchPolicy(pb.FetchPolicyRequest(sha256=ref.sha256), timeout=PATIENCE_S)
                data = b"".join(c.data for c in chunks)
                self.policies[ref.sha256] = LoadedPolicy(ref.sha256, *decode_policy(data))
        return order

    def play(self, order: Order) -> Fragment:
        """An honest answer, numbered."""
        fragment = self.collector.run(order, self.policies)
        self.seq += 1
        fragment.seq = self.seq
        return fragment

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
