"""The learner's side of the wire as `covey check-actor` plays it: a gRPC server that says what a session wants."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

from covey.collect.parts import FragmentAssembler
from covey.errors import AddressInUseError, CoveyError, FragmentError, SpaceError
from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import actor_service_pb2_grpc as services
from covey.v1.environment_pb2 import EnvironmentSpec
from covey.v1.fragment_pb2 import Fragment
from covey.wire.channel import SERVER_OPTIONS
from covey.wire.limits import CHUNK_BYTES
from covey.wire.messages import groups_from_proto, spaces_from_proto
from covey.wire.versions import SPOKEN, Versions, agreed_version
from covey_server.orders.session import Session
from covey_server.orders.sessions import Sessions, check_same_spaces

HEARTBEAT_S = 1.0
"""Seconds between heartbeats, of both sides."""

GRACE_S = 2.0
"""Seconds that a stream has to end by itself when all is over."""

MOST_WAITING = 64
"""What waits at most for the session to look at it; further calls fail, and a stream's reader waits."""

_BROKEN = object()


class Line:
    """One Work stream: what has come up it, and what goes down.

    Attributes:
        hello: The session that the actor named in its first frame; None if that was no Hello.
        up: Whole fragments, Finish, and None when the stream has ended.
        largest: Bytes of the largest frame that held a fragment.
        beats: When heartbeats came, in seconds of `time.monotonic`.
    """

    def __init__(self) -> None:
        self.hello: str | None = None
        self.up: queue.Queue[Fragment | pb.Finish | FragmentError | None] = queue.Queue(MOST_WAITING)
        self.largest = 0
        self.beats: list[float] = []
        self._down: queue.Queue[Any] = queue.Queue()

    def send(self, **kind: Any) -> None:
        """Send one frame, such as `order=...`."""
        self._down.put(pb.LearnerFrame(**kind))

    def end(self) -> None:
        """End the stream with OK, as a learner does after Finish and after an error frame."""
        self._down.put(None)

    def cut(self) -> None:
        """Break the stream, as a broken connection does."""
        self._down.put(_BROKEN)

    def frames(self, context: grpc.ServicerContext) -> Iterator[pb.LearnerFrame]:
        """Yield the frames that are sent to the actor, and a heartbeat whenever there was none for a while."""
        while context.is_active():
            try:
                frame = self._down.get(timeout=HEARTBEAT_S / 2)
            except queue.Empty:
                frame = pb.LearnerFrame(heartbeat=pb.Heartbeat())
            if frame is None:
                return
            if frame is _BROKEN:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was broken on purpose")
            yield frame

    def read(self, frames: Iterator[pb.ActorFrame]) -> None:
        """Take in what comes up; runs in a thread of its own."""
        assembler = FragmentAssembler()
        try:
            for frame in frames:
                match frame.WhichOneof("kind"):
                    case "heartbeat":
                        self.beats.append(time.monotonic())
                    case "finish":
                        self.up.put(frame.finish)
                    case "fragment":
                        self.largest = max(self.largest, frame.ByteSize())
                        try:
                            whole = assembler.add(frame.fragment)
                        except FragmentError as exc:
                            self.up.put(exc)
                        else:
                            if whole is not None:
                                self.up.put(whole)
                    case _:
                        pass
        except grpc.RpcError:
            pass  # the stream was broken, by either side
        finally:
            self.up.put(None)


class LearnerSide(services.ActorServiceServicer):
    """Answers an actor as a learner does; what came is queued for the session that looks at it.

    Args:
        environment: What Describe says.
        bind: HOST:PORT to listen on.

    Raises:
        AddressInUseError: it cannot listen there.

    Attributes:
        address: HOST:PORT where it listens.
        described: For each Describe the error that it was refused with, None if it was not.
        joins: Requests of Join, each with the error that it was refused with, if it was.
        lines: Work streams, each as soon as its first frame has come.
        policies: Policy files by hash.
        fetched: Hashes that were asked for.
        epoch: Another number is another life of the learner.
        spaces: Those of the first valid Join.
        session: The actor's session since its last Join.
    """

    def __init__(self, environment: EnvironmentSpec, bind: str) -> None:
        self.version = SPOKEN.newest  # that the actor speaks
        self.described: queue.Queue[CoveyError | None] = queue.Queue(MOST_WAITING)
        self.joins: queue.Queue[tuple[pb.JoinRequest, CoveyError | None]] = queue.Queue(MOST_WAITING)
        self.lines: queue.Queue[Line] = queue.Queue(MOST_WAITING)
        self.policies: dict[bytes, bytes] = {}
        self.fetched: set[bytes] = set()
        self.epoch = 1
        self.spaces: EnvironmentSpaces | None = None
        self.session: Session | None = None
        self._environment = environment
        self._sessions = Sessions(HEARTBEAT_S)
        # A Work stream and its reader take a thread each, and an actor may leave a few streams open.
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=SERVER_OPTIONS)
        services.add_ActorServiceServicer_to_server(self, self._server)
        try:
            port = self._server.add_insecure_port(bind)
        except RuntimeError as exc:
            raise AddressInUseError(f"--bind {bind} cannot be bound; choose another port, or 0 for any") from exc
        self.address = f"{bind.rpartition(':')[0]}:{port}"
        self._server.start()

    def stop(self) -> None:
        """Stop listening; streams that are about to end still may, so that the actor gets to know it."""
        self._server.stop(GRACE_S).wait()

    def restart(self) -> None:
        """Answer the next Join as a learner that has restarted, with all that was received in its journal."""
        self.epoch += 1
        if self.session is not None:
            self.session.token = ""

    def Describe(self, request: pb.DescribeRequest, context: grpc.ServicerContext) -> pb.DescribeResponse:
        """Say what to run."""
        try:
            self.version = version = agreed_version("describe", Versions.of(request), SPOKEN)
        except CoveyError as exc:
            self.described.put(exc, timeout=HEARTBEAT_S)
            context.abort(grpc.StatusCode[exc.status], str(exc))
            raise
        self.described.put(None, timeout=HEARTBEAT_S)
        return pb.DescribeResponse(protocol_version=version, environment=self._environment, run_name="check-actor")

    def Join(self, request: pb.JoinRequest, context: grpc.ServicerContext) -> pb.JoinResponse:
        """Admit the actor, with the checks of a learner."""
        try:
            version = request.protocol_version
            agreed_version("join", Versions(version, version), SPOKEN)
            spaces = spaces_from_proto(request.spaces, groups_from_proto(self._environment.groups))
            expected = self._environment.frame_stack if self._environment.HasField("frame_stack") else 1
            if spaces.frame_stack != expected:
                raise SpaceError(
                    f"join: frame_stack {spaces.frame_stack} in the spaces, expected {expected} as Describe says"
                )
            if (spaces.state is not None) != self._environment.state:
                raise SpaceError(f"join: state {spaces.state} in the spaces, expected as Describe says")
            self.spaces = self.spaces or spaces
            check_same_spaces(request.actor_id, self.spaces, spaces)
            session = self._sessions.join(request)
        except CoveyError as exc:
            self.joins.put((request, exc), timeout=HEARTBEAT_S)
            context.abort(grpc.StatusCode[exc.status], str(exc))
            raise
        self.session = session
        self.joins.put((request, None), timeout=HEARTBEAT_S)
        return pb.JoinResponse(
            session=session.token,
            epoch=self.epoch,
            resume_after_seq=session.received_seq,
            schema_hash=RowSchema.of(spaces).hash,
            heartbeat_interval_s=HEARTBEAT_S,
            compression_level=1,
        )

    def Work(
        self, request_iterator: Iterator[pb.ActorFrame], context: grpc.ServicerContext
    ) -> Iterator[pb.LearnerFrame]:
        """Exchange frames with the actor."""
        line = Line()
        first = next(request_iterator, None)
        if first is not None and first.WhichOneof("kind") == "hello":
            line.hello = first.hello.session
        self.lines.put(line, timeout=HEARTBEAT_S)
        threading.Thread(target=line.read, args=(request_iterator,), daemon=True).start()
        yield from line.frames(context)

    def FetchPolicy(self, request: pb.FetchPolicyRequest, context: grpc.ServicerContext) -> Iterator[pb.PolicyChunk]:
        """Send policy files."""
        for sha256 in (request.sha256, *request.then):
            self.fetched.add(sha256)
            data = self.policies.get(sha256)
            if data is None:
                context.abort(grpc.StatusCode.NOT_FOUND, "policy is gone; drop the order that names it")
            assert data is not None
            for start in range(0, len(data), CHUNK_BYTES):
                yield pb.PolicyChunk(total_bytes=len(data) if start == 0 else 0, data=data[start : start + CHUNK_BYTES])
