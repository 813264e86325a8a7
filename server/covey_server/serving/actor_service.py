"""The data plane: one coroutine per actor's stream, and the frames that wait to go down it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from covey.collect.parts import FragmentAssembler
from covey.errors import ConfigError, FragmentError, RefusedError, StorageError
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import actor_service_pb2_grpc as services
from covey.wire.channel import CHUNK_BYTES, MAX_FETCHED_WITH
from covey_server.attendance import Attendance
from covey_server.coordination.run_state import RunState
from covey_server.coordination.threads import in_thread
from covey_server.ingest.intake import Intake
from covey_server.learner import Learner
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.session import AT_WORK, Session, SessionState
from covey_server.security.authorization import check_name
from covey_server.security.guard import Context

logger = logging.getLogger("covey.rpc")

HELLO_S = 10.0
"""How long a Work stream may keep to itself whose it is."""


class _Outgoing:
    """Frames for one actor. Bounded: at most two orders are out, acknowledgements merge, the rest comes once."""

    def __init__(self) -> None:
        self._frames: deque[pb.LearnerFrame] = deque()
        self._ack: pb.Ack | None = None
        self._wake = asyncio.Event()
        self.ended = False

    def __len__(self) -> int:
        return len(self._frames) + (self._ack is not None)

    def put(self, frame: pb.LearnerFrame) -> None:
        """Send a frame in its turn."""
        self._frames.append(frame)
        self._wake.set()

    def ack(self, ack: pb.Ack) -> None:
        """Send the newest acknowledgement; what an unsent one asked for is kept."""
        if self._ack is not None:
            ack.refusals.extend(self._ack.refusals)
            ack.resend_from_seq = ack.resend_from_seq or self._ack.resend_from_seq
        self._ack = ack
        self._wake.set()

    def end(self, error: pb.StreamError | None = None) -> None:
        """Send what waits, then an error if there is one, then nothing more."""
        if error is not None:
            self._frames.append(pb.LearnerFrame(error=error))
        self.ended = True
        self._wake.set()

    async def frames(self) -> AsyncIterator[pb.LearnerFrame]:
        """Frames as they come, until ended."""
        while True:
            if self._ack is not None:
                ack, self._ack = self._ack, None
                yield pb.LearnerFrame(ack=ack)
            elif self._frames:
                yield self._frames.popleft()
            elif self.ended:
                return
            else:
                self._wake.clear()
                await self._wake.wait()


class ActorServicer(services.ActorServiceServicer):
    """Thin: decodes, delegates to the learner, encodes. All methods but `gauges` run on the gRPC loop.

    Args:
        learner: Whose orders leave here.
        attendance: Is told of actors that come and go.
        intake: Takes fragments in.
    """

    def __init__(self, learner: Learner, attendance: Attendance, intake: Intake) -> None:
        self._learner = learner
        self._attendance = attendance
        self._intake = intake
        self._streams: dict[ActorKey, _Outgoing] = {}
        self._dispatch_is_due = False

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        """What to run."""
        del context
        described = self._attendance.describe()
        if request.protocol_version < described.protocol_version:
            raise RefusedError(
                f"actor speaks protocol {request.protocol_version}, expected {described.protocol_version}; "
                "install the learner's version of covey there"
            )
        return described

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """Identify and agree on spaces."""
        check_name(context, request.actor_id)
        # The first Join builds the population, which takes a while; the loop goes on meanwhile.
        response = await in_thread("join", self._attendance.join, request)
        for key in list(self._streams):
            if key[0] == request.actor_id and key[1] != request.incarnation:
                self._streams[key].end(
                    pb.StreamError(
                        code=pb.StreamError.CODE_FENCED,
                        message=f"a newer process has joined as actor {request.actor_id!r}",
                    )
                )
        return response

    async def Work(
        self, request_iterator: AsyncIterator[pb.ActorFrame], context: Context
    ) -> AsyncIterator[pb.LearnerFrame]:
        """Fragments up, orders down."""
        del context
        outgoing = _Outgoing()
        reader = asyncio.create_task(self._read(request_iterator, outgoing))
        late = asyncio.get_running_loop().call_later(HELLO_S, self._end_if_unknown, outgoing)
        try:
            async for frame in outgoing.frames():
                yield frame
        finally:
            late.cancel()
            # A peer that has died ends this generator; one that is gone for good ends the reader.
            outgoing.end()
            reader.cancel()

    def _end_if_unknown(self, outgoing: _Outgoing) -> None:
        """End a stream that has not said whose it is: nothing else would notice its silence."""
        if not any(stream is outgoing for stream in self._streams.values()):
            code = pb.StreamError.CODE_UNKNOWN_SESSION
            outgoing.end(pb.StreamError(code=code, message=f"no hello came within {HELLO_S:.0f} s; Join again"))

    async def _read(self, frames: AsyncIterator[pb.ActorFrame], outgoing: _Outgoing) -> None:
        """Take in an actor's frames until it has no more, says goodbye, or is sent away."""
        assembler = FragmentAssembler()
        session: Session | None = None
        try:
            async for frame in frames:
                if session is None:
                    session = self._open(frame, outgoing)
                elif not self._handle(session, frame, assembler, outgoing):
                    break
                if outgoing.ended:
                    break
        except ConfigError as exc:  # a frame that is none
            outgoing.end(pb.StreamError(code=pb.StreamError.CODE_PROTOCOL, message=str(exc)))
        except Exception as exc:
            logger.exception("stream of actor %s failed", session.actor_id if session else "unknown")
            outgoing.end(pb.StreamError(code=pb.StreamError.CODE_PROTOCOL, message="internal error; see the log"))
            if isinstance(exc, StorageError):  # nothing more can be kept: the run cannot go on
                self._learner.fail(exc)
        finally:
            outgoing.end()
            if session is not None and self._streams.get(session.key) is outgoing:
                del self._streams[session.key]

    def _open(self, frame: pb.ActorFrame, outgoing: _Outgoing) -> Session | None:
        session = self._attendance.session(frame.hello.session)
        if session is None or self._attendance.heard(session) not in AT_WORK:
            code = pb.StreamError.CODE_UNKNOWN_SESSION
            outgoing.end(pb.StreamError(code=code, message="the session is not known here (any more); Join again"))
            return None
        before = self._streams.pop(session.key, None)
        if before is not None:
            before.end()
        self._streams[session.key] = outgoing
        self._acknowledge(session.key)
        self.dispatch()
        return session

    def _handle(
        self, session: Session, frame: pb.ActorFrame, assembler: FragmentAssembler, outgoing: _Outgoing
    ) -> bool:
        """One frame; False when the actor has said goodbye."""
        state = self._attendance.heard(session)
        if state not in AT_WORK:
            fenced = state is SessionState.FENCED
            code = pb.StreamError.CODE_FENCED if fenced else pb.StreamError.CODE_UNKNOWN_SESSION
            outgoing.end(pb.StreamError(code=code, message=f"actor {session.actor_id!r} is {state}"))
            return False
        match frame.WhichOneof("kind"):
            case "fragment":
                try:
                    whole = assembler.add(frame.fragment)
                except FragmentError as exc:
                    outgoing.end(pb.StreamError(code=pb.StreamError.CODE_PROTOCOL, message=str(exc)))
                    return False
                if whole is not None:
                    outgoing.ack(self._intake.receive(session, whole))
                    if self._attendance.quarantine_if_due(session):
                        code = pb.StreamError.CODE_QUARANTINED
                        outgoing.end(pb.StreamError(code=code, message="too many refused fragments"))
                        return False
                    self._dispatch_soon()
            case "heartbeat":
                self._attendance.beat(session, frame.heartbeat)
            case "finish":
                self._attendance.finished(session, frame.finish.reason)
                outgoing.end()
                self.dispatch()
                return False
            case _:
                pass
        return True

    async def FetchPolicy(self, request: pb.FetchPolicyRequest, context: Context) -> AsyncIterator[pb.PolicyChunk]:
        """Policies in chunks."""
        if len(request.then) > MAX_FETCHED_WITH:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{len(request.then)} further policies asked for, expected at most {MAX_FETCHED_WITH}; ask again for "
                "the rest",
            )
        for sha256 in (request.sha256, *request.then):
            blob = self._learner.policy(sha256)
            if blob is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, "policy is gone; drop the order that names it")
            for start in range(0, len(blob), CHUNK_BYTES):
                yield pb.PolicyChunk(total_bytes=len(blob) if start == 0 else 0, data=blob[start : start + CHUNK_BYTES])

    # -- from the learner, on the loop ------------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        """Dispatch when what is at hand has been taken in and acknowledged: making orders takes longer."""
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            asyncio.get_running_loop().call_soon(self._dispatch_due)

    def _dispatch_due(self) -> None:
        self._dispatch_is_due = False
        try:
            self.dispatch()
        except Exception as exc:  # orders can no longer be kept: the run cannot go on
            logger.exception("no orders can be made")
            self._learner.fail(exc)

    def dispatch(self) -> None:
        """Send orders to whoever may have one, one each in turn, until nobody may."""
        if self._learner.state is RunState.COMPLETE:
            self.drain_all(run_complete=True, reason="the run is complete")
            return
        waiting = [(key, self._streams[key]) for key in self._learner.with_order_capacity(list(self._streams))]
        while waiting:
            served = []
            for key, outgoing in waiting:
                order = None if outgoing.ended else self._learner.next_order(key)
                if order is not None:
                    outgoing.put(pb.LearnerFrame(order=order))
                    served.append((key, outgoing))
            waiting = served

    def drain(self, actor_id: str) -> bool:
        """Ask an actor to finish its order and leave; False if it has no stream."""
        found = False
        for key, outgoing in self._streams.items():
            if key[0] == actor_id:
                self._attendance.drain(key)
                outgoing.put(pb.LearnerFrame(drain=pb.Drain(reason="drained on request")))
                found = True
        return found

    def drain_all(self, *, run_complete: bool, reason: str) -> None:
        """Tell every actor to leave."""
        for outgoing in self._streams.values():
            if not outgoing.ended:
                outgoing.put(pb.LearnerFrame(drain=pb.Drain(run_complete=run_complete, reason=reason)))

    def acknowledge_durable(self, durable: list[Session]) -> None:
        """Tell actors what has become durable."""
        for session in durable:
            self._acknowledge(session.key)

    def give_up_silent(self) -> None:
        """Let go of actors that have been silent for too long, and of their streams: they may hang for long yet."""
        for key in self._attendance.give_up_silent():
            outgoing = self._streams.get(key)
            if outgoing is not None:
                code = pb.StreamError.CODE_UNKNOWN_SESSION
                outgoing.end(pb.StreamError(code=code, message="silent for too long; Join again"))

    def ask_again(self) -> None:
        """Have every actor send again what was not taken in while the disk was full."""
        for key in self._streams:
            self._acknowledge(key, resend=True)

    def _acknowledge(self, key: ActorKey, *, resend: bool = False) -> None:
        """Tell an actor where it stands, if it listens."""
        ack, outgoing = self._attendance.ack(key, resend=resend), self._streams.get(key)
        if ack is not None and outgoing is not None and not outgoing.ended:
            outgoing.ack(ack)

    def heartbeat(self) -> None:
        """Show every actor that the learner lives."""
        for outgoing in self._streams.values():
            if not outgoing.ended:
                outgoing.put(pb.LearnerFrame(heartbeat=pb.Heartbeat()))

    @property
    def open_streams(self) -> int:
        """Actors that are connected now."""
        return len(self._streams)

    def gauges(self) -> dict[str, int]:
        """Streams, and frames that they have not taken yet. From any thread."""
        streams = list(self._streams.values())
        return {"streams": len(streams), "frames_to_send": sum(map(len, streams))}


def register(servicer: ActorServicer, server: Any) -> None:
    """Add the service to a server."""
    services.add_ActorServiceServicer_to_server(servicer, server)
