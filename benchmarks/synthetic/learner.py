"""A learner that only hands out orders: a gRPC server in a benchmark's own process, for one real actor process."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent import futures

import grpc

from covey.rows import RowSchema
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import actor_service_pb2_grpc, environment_pb2
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey.wire.channel import SERVER_OPTIONS

ORDERS_OUT = 2


class OrderingLearner(actor_service_pb2_grpc.ActorServiceServicer):
    """Says what to run, accepts everybody, and orders what `run` is given.

    Args:
        environment: What actors are to load.
        schema: Of its rows.
        policies: By hash, what orders may name.
    """

    def __init__(
        self, environment: environment_pb2.EnvironmentSpec, schema: RowSchema, policies: Mapping[bytes, bytes]
    ) -> None:
        self._environment, self._schema, self._policies = environment, schema, policies
        self.first_frames: queue.Queue[float] = queue.Queue()
        self._down: queue.Queue[pb.LearnerFrame] = queue.Queue()
        self._up: queue.Queue[Fragment] = queue.Queue()
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=SERVER_OPTIONS)
        actor_service_pb2_grpc.add_ActorServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def run(self, orders: Iterable[Order]) -> list[Fragment]:
        """Have the orders carried out, two of them at a time with the actor; returns what they gave."""
        fragments: list[Fragment] = []
        sent = 0
        for order in orders:
            self._down.put(pb.LearnerFrame(order=order))
            sent += 1
            if sent - len(fragments) == ORDERS_OUT:
                fragments.append(self._next())
        while len(fragments) < sent:
            fragments.append(self._next())
        return fragments

    def stop(self) -> None:
        """Break all connections."""
        self._server.stop(None).wait()

    def _next(self) -> Fragment:
        fragment = self._up.get(timeout=120)
        self._down.put(pb.LearnerFrame(ack=pb.Ack(received_seq=fragment.seq, durable_seq=fragment.seq)))
        return fragment

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeResponse:
        """The environment of the benchmark."""
        del request, context
        return pb.DescribeResponse(protocol_version=1, environment=self._environment)

    def Join(self, request: pb.JoinRequest, context: grpc.ServicerContext) -> pb.JoinResponse:
        """Welcome."""
        del request, context
        return pb.JoinResponse(
            session="s", epoch=1, schema_hash=self._schema.hash, heartbeat_interval_s=60, compression_level=1
        )

    def Work(
        self, request_iterator: Iterator[pb.ActorFrame], context: grpc.ServicerContext
    ) -> Iterator[pb.LearnerFrame]:
        """Orders down, fragments up, until the actor's goodbye."""
        over = pb.LearnerFrame()

        def read() -> None:
            try:
                for i, frame in enumerate(request_iterator):
                    if i == 0:
                        self.first_frames.put(time.perf_counter())
                    if frame.WhichOneof("kind") == "fragment":
                        self._up.put(frame.fragment)
                    elif frame.WhichOneof("kind") == "finish":
                        break
            except grpc.RpcError:
                pass  # the actor is gone
            self._down.put(over)

        reader = futures.ThreadPoolExecutor(max_workers=1)
        reader.submit(read)
        yield pb.LearnerFrame(heartbeat=pb.Heartbeat())
        while (frame := self._down.get()) is not over:
            yield frame
        reader.shutdown()

    def FetchPolicy(self, request: pb.FetchPolicyRequest, context: grpc.ServicerContext) -> Iterator[pb.PolicyChunk]:
        """The policies asked for."""
        del context
        for sha256 in (request.sha256, *request.then):
            data = self._policies[sha256]
            yield pb.PolicyChunk(total_bytes=len(data), data=data)
