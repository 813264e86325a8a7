"""An actor of protocol version 1 as it was before there were ranges of versions: frozen, and nothing of covey's in it.

    python -m tests.support.version_1.client HOST:PORT [--name ID]

It says what actors of that version said, with the protos of that version, and steps a counter of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import random
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from tests.support.version_1.messages import MESSAGES, SERVICE
from tests.support.version_1.play import AGENTS, DRAIN, POLICY_UNAVAILABLE, SCHEMA_HASH, Player, Policy

VERSION = 1
DEADLINE_S = 60.0
UNKNOWN_SESSION = 2


class SentAwayError(Exception):
    """The learner does not want this actor."""


class Client:
    """One actor. `run` ends when the learner has drained it."""

    def __init__(self, address: str, name: str) -> None:
        self.name, self.incarnation = name, secrets.randbits(63) + 1
        self.channel = grpc.insecure_channel(address)
        self.player: Player
        self.policies: dict[bytes, Policy] = {}
        self.seq = 0
        self.outbox: dict[int, Any] = {}  # fragments that are not durable yet, by seq
        self.received_seq = 0
        self.held: dict[int, Any] = {}  # orders without an answer
        self.orders: queue.Queue[Any] = queue.Queue()
        self.epoch = 0
        self.interval_s = 5.0
        self.draining = threading.Event()
        self.idle = threading.Event()  # after draining: all orders are answered

    # -- what it says ---------------------------------------------------------------------------------------------

    def call(self, method: str, request: Any, answer: str, *, stream: bool = False) -> Any:
        make = self.channel.unary_stream if stream else self.channel.unary_unary
        serialise = type(request).SerializeToString
        return make(SERVICE + method, serialise, MESSAGES[answer].FromString)(request, timeout=DEADLINE_S)

    def describe(self) -> Any:
        return self.call("Describe", MESSAGES["DescribeRequest"](protocol_version=VERSION), "DescribeResponse")

    def join_request(self) -> Any:
        request = MESSAGES["JoinRequest"](
            protocol_version=VERSION,
            actor_id=self.name,
            incarnation=self.incarnation,
            train_slots=len(self.player.training),
            eval_slots=len(self.player.evaluation),
            hostname="recorded",
            software_version="0.1.0",
            held_order_ids=[*list(self.held), *(f.order_id for f in list(self.outbox.values()))],
            first_held_seq=min(list(self.outbox), default=self.seq + 1),
        )
        for name in AGENTS:
            agent = request.spaces.agents.add(agent_id=name)
            observation = agent.observation.box
            observation.dtype, observation.low[:], observation.high[:] = "float32", [0.0], [float(2**31)]
            observation.shape.append(3)
            if name.startswith("caller"):
                agent.action.discrete.n, agent.action.discrete.start = 4, 10
            else:
                agent.action.box.dtype, agent.action.box.low[:], agent.action.box.high[:] = "float32", [1.0], [3.0]
                agent.action.box.shape.append(2)
        return request

    # -- its life -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        described = self.describe()
        if described.protocol_version != VERSION:
            raise SentAwayError(f"protocol version {described.protocol_version}")
        spec = described.environment
        length = json.loads(spec.config_json).get("length", 5)
        self.player = Player(spec.train_slots, spec.eval_slots, length)
        threading.Thread(target=self.work, daemon=True).start()
        while True:
            try:
                joined = self.call("Join", self.join_request(), "JoinResponse")
                if self.stream(joined):
                    return
            except grpc.RpcError as exc:
                if exc.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
            time.sleep(random.uniform(0, 0.5))

    def stream(self, joined: Any) -> bool:
        """Serve one Work stream until it ends; returns whether this client ended it in order, by sending Finish."""
        if joined.schema_hash != SCHEMA_HASH:
            raise SentAwayError("another row schema")
        if self.epoch not in (0, joined.epoch):
            self.player.forget_evaluations()
        self.epoch, self.interval_s = joined.epoch, joined.heartbeat_interval_s
        self.player.level = joined.compression_level
        self.received_seq = joined.resume_after_seq
        sent = {"next": joined.resume_after_seq + 1}
        over = threading.Event()
        make = self.channel.stream_stream(
            SERVICE + "Work", MESSAGES["ActorFrame"].SerializeToString, MESSAGES["LearnerFrame"].FromString
        )
        finished = threading.Event()
        try:
            for frame in make(self.frames(joined.session, sent, over, finished)):
                kind = frame.WhichOneof("kind")
                if kind == "order":
                    self.held[frame.order.order_id] = frame.order
                    self.orders.put(frame.order)
                elif kind == "ack":
                    self.acknowledged(frame.ack, sent)
                elif kind == "drain":
                    self.draining.set()
                    self.orders.put(None)
                elif kind == "error" and frame.error.code != UNKNOWN_SESSION:
                    raise SentAwayError(frame.error.message)
            return finished.is_set()
        finally:
            over.set()

    def acknowledged(self, ack: Any, sent: dict[str, int]) -> None:
        self.received_seq = max(self.received_seq, ack.received_seq)
        for seq in [s for s in self.outbox if s <= ack.durable_seq]:
            del self.outbox[seq]
        if ack.resend_from_seq:
            sent["next"] = ack.resend_from_seq

    def frames(
        self, session: str, sent: dict[str, int], over: threading.Event, finished: threading.Event
    ) -> Iterator[Any]:
        """What goes up: hello, heartbeats, fragments in seq order, and Finish at the end."""
        frame = MESSAGES["ActorFrame"]
        yield frame(hello=MESSAGES["Hello"](session=session))
        beat_at = 0.0
        while not over.is_set():
            if time.monotonic() >= beat_at + self.interval_s:
                beat_at = time.monotonic()
                yield frame(heartbeat=MESSAGES["Heartbeat"](orders_held=len(self.held)))
            if (fragment := self.outbox.get(sent["next"])) is not None:
                sent["next"] += 1
                yield frame(fragment=fragment)
            elif self.idle.is_set() and self.received_seq >= self.seq:
                finished.set()
                yield frame(finish=MESSAGES["Finish"](last_seq=self.seq, reason="drained"))
                return
            else:
                over.wait(0.01)

    # -- orders, in a thread of their own ---------------------------------------------------------------------------

    def work(self) -> None:
        while not self.draining.is_set():
            order = self.orders.get()
            if order is not None and not self.draining.is_set():
                self.answer(order)
        for order in list(self.held.values()):
            self.put(MESSAGES["Fragment"](order_id=order.order_id, schema_hash=SCHEMA_HASH, shortfall=DRAIN))
        self.idle.set()

    def answer(self, order: Any) -> None:
        if self.fetch(order):
            self.put(self.player.run(order, self.policies, self.draining.is_set))
        else:
            hold = {"order_id": order.order_id, "schema_hash": SCHEMA_HASH}
            self.put(MESSAGES["Fragment"](shortfall=POLICY_UNAVAILABLE, **hold))

    def fetch(self, order: Any) -> bool:
        """Whether all policies of an order are there."""
        for ref in order.policies:
            while ref.sha256 and ref.sha256 not in self.policies:
                request = MESSAGES["FetchPolicyRequest"](sha256=ref.sha256)
                try:
                    chunks = self.call("FetchPolicy", request, "PolicyChunk", stream=True)
                    self.policies[ref.sha256] = Policy(b"".join(chunk.data for chunk in chunks))
                except grpc.RpcError as exc:
                    if exc.code() == grpc.StatusCode.NOT_FOUND:
                        return False
                    time.sleep(0.2)
        return True

    def put(self, fragment: Any) -> None:
        fragment.seq = self.seq + 1
        self.outbox[fragment.seq] = fragment
        self.seq = fragment.seq
        self.held.pop(fragment.order_id, None)


def main(client: type[Client] = Client) -> None:
    """Work until the run is complete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--name", default="version-1")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        client(arguments.address, arguments.name).run()


if __name__ == "__main__":
    main()
