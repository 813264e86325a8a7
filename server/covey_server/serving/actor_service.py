"""The data plane: the gRPC service for actors, with one coroutine per stream and a queue of frames to each actor."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from covey.collect.parts import FragmentAssembler
from covey.errors import FragmentError, StorageError, UnreachableError
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import actor_service_pb2_grpc as services
from covey.wire.envelope import is_intact
from covey.wire.limits import CHUNK_BYTES, MAX_FETCHED_WITH
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
"""A Work stream is ended if the actor has not said within this time, in seconds, whose session it is."""


class _Outgoing:
    """The frames that wait to be sent to one actor.

    It stays small: at most two orders are outstanding, acknowledgements are merged, other frames are rare.

    Attributes:
        ended: Whether nothing more is sent after the frames that wait.
    """

    def __init__(self) -> None:
        self._frames: deque[pb.LearnerFrame] = deque()
        self._ack: pb.Ack | None = None
        self._wake = asyncio.Event()
        self.ended = False

    def __len__(self) -> int:
        return len(self._frames) + (self._ack is not None)

    def put(self, frame: pb.LearnerFrame) -> None:
        """Queue a frame after those that wait."""
        self._frames.append(frame)
        self._wake.set()

    def ack(self, ack: pb.Ack) -> None:
        """Queue an acknowledgement in place of an unsent one, whose refusals and request to resend it takes over."""
        if self._ack is not None:
            ack.refusals.extend(self._ack.refusals)
            ack.resend_from_seq = ack.resend_from_seq or self._ack.resend_from_seq
        self._ack = ack
        self._wake.set()

    def end(self, error: pb.StreamError | None = None) -> None:
        """Send the frames that wait, then the error if one is given, then end the stream."""
        if error is not None:
            self._frames.append(pb.LearnerFrame(error=error))
        self.ended = True
        self._wake.set()

    async def frames(self) -> AsyncIterator[pb.LearnerFrame]:
        """Yield frames as they are queued, acknowledgements first, until `end` was called and none waits."""
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
    """The gRPC service that actors call: it decodes messages, asks the learner, and encodes the answers.

    All methods except `gauges` run on the gRPC loop.

    Args:
        learner: Makes the orders that are sent here.
        attendance: Admits actors, and is told when they are heard of, fall silent and leave.
        intake: Takes in the fragments that arrive.
    """

    def __init__(self, learner: Learner, attendance: Attendance, intake: Intake) -> None:
        self._learner = learner
        self._attendance = attendance
        self._intake = intake
        self._streams: dict[ActorKey, _Outgoing] = {}
        self._dispatch_is_due = False

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        """Tell an actor what to run: the environment, numbers of slots, and the protocol version."""
        return self._attendance.describe(request, f"an actor at {context.peer()}")

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:
        """Admit an actor to the run, and end the streams of older processes with its name."""
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
        """Exchange frames with one actor: fragments and heartbeats come up; orders and acknowledgements go down."""
        del context
        outgoing = _Outgoing()
        reader = asyncio.create_task(self._read(request_iterator, outgoing))
        late = asyncio.get_running_loop().call_later(HELLO_S, self._end_if_unknown, outgoing)
        try:
            async for frame in outgoing.frames():
                yield frame
        finally:
            late.cancel()
            # gRPC closes this generator when the peer's connection breaks; the reader must not outlive it.
            outgoing.end()
            reader.cancel()

    def _end_if_unknown(self, outgoing: _Outgoing) -> None:
        """End a stream that has not said whose session it is: no check of silent actors would ever end it."""
        if not any(stream is outgoing for stream in self._streams.values()):
            code = pb.StreamError.CODE_UNKNOWN_SESSION
            outgoing.end(pb.StreamError(code=code, message=f"no hello came within {HELLO_S:.0f} s; Join again"))

    async def _read(self, frames: AsyncIterator[pb.ActorFrame], outgoing: _Outgoing) -> None:
        """Handle an actor's frames until it has no more, says goodbye, or its stream is ended here."""
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
        except UnreachableError:  # a frame that cannot be parsed
            self._end_damaged(outgoing)
        except Exception as exc:
            logger.exception("stream of actor %s failed", session.actor_id if session else "unknown")
            outgoing.end(pb.StreamError(code=pb.StreamError.CODE_PROTOCOL, message="internal error; see the log"))
            if isinstance(exc, StorageError):  # no further fragment can be journalled: the run cannot go on
                self._learner.fail(exc)
        finally:
            outgoing.end()
            if session is not None and self._streams.get(session.key) is outgoing:
                del self._streams[session.key]

    def _open(self, frame: pb.ActorFrame, outgoing: _Outgoing) -> Session | None:
        """Open the stream of the session that an actor's first frame names; returns None if it is not known."""
        session = self._attendance.session(frame.hello.session)
        if session is None or self._attendance.heard(session) not in AT_WORK:
            code = pb.StreamError.CODE_UNKNOWN_SESSION
            outgoing.end(pb.StreamError(code=code, message="the session is not known here (any more); Join again"))
            return None
        # An actor that reconnects may have an older stream whose break was not noticed yet.
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
        """Handle one frame of an actor; returns False if the stream has ended with it."""
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
                if whole is not None and not is_intact(whole):
                    self._end_damaged(outgoing)
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

    def _end_damaged(self, outgoing: _Outgoing) -> None:
        """End a stream on which something arrived damaged: its actor joins again and sends what is missing again."""
        self._learner.count("damaged")
        code = pb.StreamError.CODE_UNKNOWN_SESSION
        outgoing.end(pb.StreamError(code=code, message="a frame arrived damaged; Join again"))

    async def FetchPolicy(self, request: pb.FetchPolicyRequest, context: Context) -> AsyncIterator[pb.PolicyChunk]:
        """Send the files of the policies with these SHA-256 hashes, in chunks."""
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
        """Send orders once the frames that have arrived are handled: making orders takes longer than acknowledging."""
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            asyncio.get_running_loop().call_soon(self._dispatch_due)

    def _dispatch_due(self) -> None:
        """Send orders now; an error ends the run."""
        self._dispatch_is_due = False
        try:
            self.dispatch()
        except Exception as exc:  # orders can no longer be journalled: the run cannot go on
            logger.exception("no orders can be made")
            self._learner.fail(exc)

    def dispatch(self) -> None:
        """Send orders to all actors that may have some: one to each in turn, until none may have another."""
        if self._learner.state is RunState.COMPLETE:
            self.drain_all(run_complete=True, reason="the run is complete")
            return
        # One order each before anybody gets a second: else the first actor would take all steps there are.
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
        """Ask an actor to finish its order and leave; returns False if it has no stream."""
        found = False
        for key, outgoing in self._streams.items():
            if key[0] == actor_id:
                self._attendance.drain(key)
                outgoing.put(pb.LearnerFrame(drain=pb.Drain(reason="drained on request")))
                found = True
        return found

    def drain_all(self, *, run_complete: bool, reason: str) -> None:
        """Ask every actor to finish its order and leave.

        Args:
            run_complete: Whether the run is complete, so that actors exit with code 0.
            reason: Told to the actors, one line.
        """
        for outgoing in self._streams.values():
            if not outgoing.ended:
                outgoing.put(pb.LearnerFrame(drain=pb.Drain(run_complete=run_complete, reason=reason)))

    def acknowledge_durable(self, durable: list[Session]) -> None:
        """Tell the actors of these sessions which of their fragments are durable."""
        for session in durable:
            self._acknowledge(session.key)

    def give_up_silent(self) -> None:
        """Treat actors that were silent for too long as lost and end their streams, which might stay open for long."""
        for key in self._attendance.give_up_silent():
            outgoing = self._streams.get(key)
            if outgoing is not None:
                code = pb.StreamError.CODE_UNKNOWN_SESSION
                outgoing.end(pb.StreamError(code=code, message="silent for too long; Join again"))

    def take_back_overdue(self) -> None:
        """Take back orders that are not answered in time; end the streams of actors that are quarantined for it."""
        for session in self._attendance.take_back_overdue():
            outgoing = self._streams.get(session.key)
            if outgoing is not None:
                code = pb.StreamError.CODE_QUARANTINED
                outgoing.end(pb.StreamError(code=code, message="too many orders were not answered in time"))

    def ask_again(self) -> None:
        """Ask every actor to send again the fragments that were not taken in while the disk was full."""
        for key in self._streams:
            self._acknowledge(key, resend=True)

    def _acknowledge(self, key: ActorKey, *, resend: bool = False) -> None:
        """Send an actor an acknowledgement, if it has a stream; `resend` asks for every fragment not received yet."""
        ack, outgoing = self._attendance.ack(key, resend=resend), self._streams.get(key)
        if ack is not None and outgoing is not None and not outgoing.ended:
            outgoing.ack(ack)

    def heartbeat(self) -> None:
        """Send every actor a heartbeat, which shows that the learner runs."""
        for outgoing in self._streams.values():
            if not outgoing.ended:
                outgoing.put(pb.LearnerFrame(heartbeat=pb.Heartbeat()))

    @property
    def open_streams(self) -> int:
        """Number of actors with an open Work stream."""
        return len(self._streams)

    def gauges(self) -> dict[str, int]:
        """Numbers of open streams and of frames that wait to be sent. Any thread may call it."""
        streams = list(self._streams.values())
        return {"streams": len(streams), "frames_to_send": sum(map(len, streams))}


def register(servicer: ActorServicer, server: Any) -> None:
    """Add the data plane's service to a gRPC server."""
    services.add_ActorServiceServicer_to_server(servicer, server)
