"""A learner that says what it is told and keeps the bytes that an actor sends, as they were on the wire."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
from tests.support.version_1.messages import MESSAGES, SERVICE
from tests.support.version_1.play import SCHEMA_HASH

PATIENCE_S = 300.0


class Recorder:
    """Sends orders one by one, each when the one before is answered, then drains the actor; reflects nothing.

    Args:
        orders: Serialised orders.
        policies: Policy files by hash.
    """

    def __init__(self, orders: Sequence[bytes], policies: Mapping[bytes, bytes]) -> None:
        self.said: dict[str, list[bytes]] = {"Describe": [], "Join": [], "Work": [], "FetchPolicy": []}
        self.over = threading.Event()
        self._orders, self._policies = orders, policies
        methods: dict[str, Any] = {
            "Describe": grpc.unary_unary_rpc_method_handler(self._describe),
            "Join": grpc.unary_unary_rpc_method_handler(self._join),
            "FetchPolicy": grpc.unary_stream_rpc_method_handler(self._fetch),
            "Work": grpc.stream_stream_rpc_method_handler(self._work),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.strip("/"), methods),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait(PATIENCE_S)

    def _describe(self, request: bytes, context: Any) -> bytes:
        self.said["Describe"].append(request)
        answer = MESSAGES["DescribeResponse"](protocol_version=1, run_name="recorded")
        spec = answer.environment
        spec.entry_point, spec.config_json = "tests.support.environments:counter", '{"length": 5}'
        spec.train_slots, spec.eval_slots = 2, 1
        return bytes(answer.SerializeToString())

    def _join(self, request: bytes, context: Any) -> bytes:
        self.said["Join"].append(request)
        answer = MESSAGES["JoinResponse"](session="s1", epoch=1, heartbeat_interval_s=600, compression_level=1)
        answer.schema_hash = SCHEMA_HASH
        return bytes(answer.SerializeToString())

    def _fetch(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.said["FetchPolicy"].append(request)
        asked = MESSAGES["FetchPolicyRequest"].FromString(request)
        for sha256 in (asked.sha256, *asked.then):
            data = self._policies[sha256]
            yield bytes(MESSAGES["PolicyChunk"](total_bytes=len(data), data=data).SerializeToString())

    def _work(self, frames: Iterator[bytes], context: Any) -> Iterator[bytes]:
        frame = MESSAGES["LearnerFrame"]
        orders = iter(self._orders)
        for data in frames:
            self.said["Work"].append(data)
            said = MESSAGES["ActorFrame"].FromString(data)
            kind = said.WhichOneof("kind")
            if kind == "finish":
                self.over.set()
                return
            if kind == "fragment":
                seq = said.fragment.seq
                yield bytes(frame(ack=MESSAGES["Ack"](received_seq=seq, durable_seq=seq)).SerializeToString())
            if kind in ("hello", "fragment"):
                order = next(orders, None)
                if order is not None:
                    yield bytes(frame(order=MESSAGES["Order"].FromString(order)).SerializeToString())
                else:
                    yield bytes(frame(drain=MESSAGES["Drain"](run_complete=True)).SerializeToString())
