"""A learner that a test drives: a real gRPC server whose Describe, Join, Work and FetchPolicy do what they are told."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import TypeVar

import grpc
from tests.support.processes import PATIENCE_S

from covey.collect import FragmentAssembler
from covey.envs import load_environment, read_spaces
from covey.rows import RowSchema
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import actor_service_pb2_grpc as services
from covey.v1 import environment_pb2, fragment_pb2, order_pb2
from covey.wire.channel import SERVER_OPTIONS

_Frame = TypeVar("_Frame")

CONFIG = {"length": 5}
MAKE = load_environment("tests.support.environments:counter", CONFIG)
SPACES = read_spaces(MAKE())
SCHEMA = RowSchema.of(SPACES)


class Connected:
    """One Work stream: what came up it, and a queue of what goes down."""

    def __init__(self) -> None:
        self.down: queue.Queue[pb.LearnerFrame | None] = queue.Queue()
        self.up: queue.Queue[fragment_pb2.Fragment | pb.Heartbeat | pb.Finish] = queue.Queue()
        self.hello = ""
        self.over = threading.Event()

    def order(self, order: order_pb2.Order) -> None:
        self.down.put(pb.LearnerFrame(order=order))

    def ack(self, received: int, durable: int | None = None, resend_from_seq: int = 0) -> None:
        ack = pb.Ack(
            received_seq=received,
            durable_seq=received if durable is None else durable,
            resend_from_seq=resend_from_seq,
        )
        self.down.put(pb.LearnerFrame(ack=ack))

    def drain(self, *, run_complete: bool = False) -> None:
        self.down.put(pb.LearnerFrame(drain=pb.Drain(run_complete=run_complete)))

    def error(self, code: pb.StreamError.Code.ValueType, message: str = "") -> None:
        self.down.put(pb.LearnerFrame(error=pb.StreamError(code=code, message=message)))
        self.down.put(None)

    def fragment(self) -> fragment_pb2.Fragment:
        """The next fragment; heartbeats are skipped."""
        return self._next(fragment_pb2.Fragment)

    def finish(self) -> pb.Finish:
        return self._next(pb.Finish)

    def heartbeat(self) -> pb.Heartbeat:
        return self._next(pb.Heartbeat)

    def _next(self, kind: type[_Frame]) -> _Frame:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            frame = self.up.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(frame, kind):
                return frame
            assert isinstance(frame, pb.Heartbeat), f"{type(frame).__name__}, expected {kind.__name__}"


class ScriptedLearner(services.ActorServiceServicer):
    """Fields may be set at any time; `streams` has every Work stream as it opens."""

    def __init__(self, port: int = 0) -> None:
        self.policies: dict[bytes, bytes] = {}
        self.environment = environment_pb2.EnvironmentSpec(
            entry_point=MAKE.entry_point, config_json=json.dumps(CONFIG), train_slots=2, eval_slots=1
        )
        self.joined = pb.JoinResponse(
            session="s1", epoch=1, schema_hash=SCHEMA.hash, heartbeat_interval_s=5.0, compression_level=1
        )
        self.protocol_version = 1
        self.network_modules: list[str] = []
        self.descriptions: list[pb.DescribeRequest] = []
        self.joins: queue.Queue[pb.JoinRequest] = queue.Queue()
        self.streams: queue.Queue[Connected] = queue.Queue()
        self.fetched: list[bytes] = []
        self.fetches = 0  # calls
        self.refuse_join: tuple[grpc.StatusCode, str] | None = None
        self.heartbeats = True
        self.fetches_hang = False
        self._open: list[Connected] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=SERVER_OPTIONS)
        services.add_ActorServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()
        self.address = f"127.0.0.1:{self.port}"

    def stop(self, grace: float | None = None) -> None:
        """Die: open streams break."""
        stopped = self._server.stop(grace)
        for stream in self._open:
            stream.down.put(None)
        stopped.wait(5)

    def stream(self) -> Connected:
        """The next Work stream that is opened."""
        return self.streams.get(timeout=PATIENCE_S)

    def join(self) -> pb.JoinRequest:
        """The next Join."""
        return self.joins.get(timeout=PATIENCE_S)

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeResponse:
        del context
        self.descriptions.append(request)
        return pb.DescribeResponse(
            protocol_version=self.protocol_version,
            environment=self.environment,
            run_name="scripted",
            network_modules=self.network_modules,
        )

    def Join(self, request: pb.JoinRequest, context: grpc.ServicerContext) -> pb.JoinResponse:
        self.joins.put(request)
        if self.refuse_join is not None:
            context.abort(*self.refuse_join)
        return self.joined

    def Work(
        self, request_iterator: Iterator[pb.ActorFrame], context: grpc.ServicerContext
    ) -> Iterator[pb.LearnerFrame]:
        connected = Connected()
        self._open.append(connected)
        threading.Thread(target=self._read, args=(request_iterator, connected), daemon=True).start()
        while True:
            try:
                frame = connected.down.get(timeout=0.2)
            except queue.Empty:
                if not context.is_active():
                    return
                if self.heartbeats:
                    yield pb.LearnerFrame(heartbeat=pb.Heartbeat())
                continue
            if frame is None:
                return
            yield frame

    def _read(self, frames: Iterator[pb.ActorFrame], connected: Connected) -> None:
        assembler = FragmentAssembler()
        try:
            for frame in frames:
                match frame.WhichOneof("kind"):
                    case "hello":
                        connected.hello = frame.hello.session
                        self.streams.put(connected)
                    case "fragment":
                        whole = assembler.add(frame.fragment)
                        if whole is not None:
                            connected.up.put(whole)
                    case "heartbeat":
                        connected.up.put(frame.heartbeat)
                    case "finish":
                        connected.up.put(frame.finish)
                        connected.down.put(None)
                    case _:
                        raise AssertionError(frame)
        except grpc.RpcError:
            pass  # the test broke the stream
        finally:
            connected.over.set()

    def FetchPolicy(self, request: pb.FetchPolicyRequest, context: grpc.ServicerContext) -> Iterator[pb.PolicyChunk]:
        self.fetches += 1
        while self.fetches_hang and context.is_active():
            time.sleep(0.05)
        for sha256 in (request.sha256, *request.then):
            self.fetched.append(sha256)
            data = self.policies.get(sha256)
            if data is None:
                context.abort(grpc.StatusCode.NOT_FOUND, "gone")
            assert data is not None
            half = len(data) // 2
            yield pb.PolicyChunk(total_bytes=len(data), data=data[:half])
            yield pb.PolicyChunk(data=data[half:])
