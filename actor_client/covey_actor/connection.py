"""An actor's connection to its learner: joining, streaming, fetching policies, reconnecting after every break."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import grpc

from covey.collect.parts import split_fragment
from covey.errors import CoveyError, RefusedError, SpaceError, UnreachableError, one_line
from covey.resources import rss_bytes
from covey.v1 import actor_service_pb2, actor_service_pb2_grpc, order_pb2
from covey.wire.channel import ANONYMOUS, UNARY_DEADLINE_S, backoff, connect, translate
from covey.wire.credentials import Credentials
from covey.wire.limits import MAX_FETCHED_WITH, MAX_HEARTBEAT_S, MIN_HEARTBEAT_S, PART_BYTES
from covey.wire.policy_file import MAX_POLICY_BYTES, policy_sha256
from covey.wire.versions import SPOKEN, Versions, agreed_version
from covey_actor.outbox import Outbox, OutboxStream

JOIN_DEADLINE_S = 30.0  # longer than other calls, as the first Join of a run builds the population
FETCH_DEADLINE_S = 60.0
TELL_EVERY_S = 60.0  # between two words on a learner that does not answer

MAX_DAMAGED = 3
"""Times in a row that one policy file may arrive damaged; the connection is made anew in between."""

_log = logging.getLogger("covey.actor")
_Error = actor_service_pb2.StreamError


class Listener(Protocol):
    """The interface of what acts on a learner's messages; its methods are called from the connection's thread."""

    def on_joined(self, joined: actor_service_pb2.JoinResponse) -> None:
        """Handle the beginning of a session with the learner and the settings that come with it."""
        ...

    def on_order(self, order: order_pb2.Order) -> None:
        """Handle an order, a piece of work from the learner; may call `Connection.fetch` and let its error pass."""
        ...

    def on_drain(self, drain: actor_service_pb2.Drain) -> None:
        """Handle the learner's request that the actor finishes its work and leaves."""
        ...

    def held_order_ids(self) -> list[int]:
        """Return the ids of the learner's orders that have no answer ready for sending yet."""
        ...


@dataclass
class Backoffs:
    """How long an actor waits between attempts to connect: pauses that grow, with random variation."""

    first_s: float = 0.5
    longest_s: float = 5.0
    rng: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], object] = time.sleep

    def __call__(self) -> Iterator[float]:
        """Begin a new sequence of pauses, the shortest first."""
        return backoff(self.first_s, self.longest_s, rng=self.rng, sleep=self.sleep)


class Connection:
    """Keeps a session with a learner, reconnecting after every break, until it ends for good.

    Args:
        address: HOST:PORT of the learner.
        outbox: Holds the messages with experience to send.
        credentials: Of this actor, and the CA of the learner.
        max_reconnect_s: Seconds of the learner's silence after which to give up; None: never.
        waits: How long to wait between attempts.
    """

    def __init__(
        self,
        address: str,
        outbox: Outbox,
        *,
        credentials: Credentials = ANONYMOUS,
        max_reconnect_s: float | None = None,
        waits: Backoffs | None = None,
    ) -> None:
        self.address = address
        self._outbox = outbox
        self._max_reconnect_s = max_reconnect_s
        self._waits = waits or Backoffs()
        self._channel = connect(address, credentials)
        self._stub = actor_service_pb2_grpc.ActorServiceStub(self._channel)
        self._heard_at = time.monotonic()
        self._away_since: float | None = None  # when the learner was found not to answer; None while it does
        self._told_at = 0.0
        self._finish_reason: str | None = None
        self._leaving = threading.Event()
        self._fetching: grpc.Call | None = None
        self._damaged: Counter[bytes] = Counter()  # by hash: how often this file came in another form, in a row

    def describe(self) -> actor_service_pb2.DescribeResponse | None:
        """Ask the learner what to run, waiting for one that is not there yet; None if `stop_waiting` was called.

        Raises:
            UnreachableError: no answer within `max_reconnect_s`.
            RefusedError: no protocol version is spoken by both sides, or this is no covey learner.
        """
        request = actor_service_pb2.DescribeRequest(
            protocol_version=SPOKEN.newest, oldest_protocol_version=SPOKEN.oldest
        )
        for _ in self._attempts():
            try:
                answer = self._stub.Describe(request, timeout=UNARY_DEADLINE_S)
            except grpc.RpcError as exc:
                self._raise_unless_passing(exc)
            else:
                self._heard_at = time.monotonic()
                # Learners from before there were ranges answer the one version that they speak, whatever was asked.
                agreed_version(
                    f"learner {self.address}", SPOKEN, Versions(answer.protocol_version, answer.protocol_version)
                )
                return answer
        return None

    def serve(self, request: actor_service_pb2.JoinRequest, listener: Listener) -> None:
        """Join the learner and work for it, joining again after every break, until all is delivered and it ends.

        Blocks.

        Args:
            request: Who joins; fields that change with every Join are filled in here.
            listener: Acts on what the learner sends.

        Raises:
            SpaceError: the run has other spaces.
            RefusedError: the learner sends this actor away: another process has its name, or it broke the protocol.
            UnreachableError: the learner was silent for longer than `max_reconnect_s`, or went away while leaving.
        """
        for _ in self._attempts():
            try:
                if self._work(self._join(request, listener), listener):
                    return
            except grpc.RpcError as exc:
                self._raise_unless_passing(exc, invalid_argument=SpaceError)
            except UnreachableError as exc:
                _log.warning("%s", exc)
            except ValueError:
                if not self._leaving.is_set():  # while leaving, `abandon` closes the channel under a call
                    raise
            if self._finish_reason is not None and self._outbox.delivered:
                return  # all fragments have arrived; it does not matter if Finish was lost
        if not self._outbox.delivered:
            fragments, _ = self._outbox.stats()
            raise UnreachableError(
                f"learner {self.address}: went away before {fragments} fragments were delivered; they are lost"
            )

    def finish(self, reason: str) -> None:
        """Let `serve` deliver all experience still held, then say goodbye to the learner and return."""
        self._finish_reason = reason
        self._outbox.finish()

    def stop_waiting(self) -> None:
        """Make no further attempt to connect; a call under way goes on. Takes no lock: a signal handler may call it."""
        self._leaving.set()

    def abandon(self) -> None:
        """Give up a learner that is gone: end all calls, so that `describe` and `serve` return."""
        self._leaving.set()
        self._channel.close()

    def fetch(self, sha256s: Sequence[bytes]) -> Iterator[bytes]:
        """Download policy files by their hashes, in this order; ends before one that the learner no longer has.

        Raises:
            UnreachableError: the connection broke on the way, or a file arrived damaged.
            RefusedError: a file is too large or has another hash, however often it is fetched.
        """
        most = 1 + MAX_FETCHED_WITH
        for start in range(0, len(sha256s), most):
            asked = sha256s[start : start + most]
            request = actor_service_pb2.FetchPolicyRequest(sha256=asked[0], then=asked[1:])
            self._fetching = call = self._stub.FetchPolicy(request, timeout=FETCH_DEADLINE_S * len(asked))
            try:
                for sha256 in asked:
                    yield self._receive(call, sha256)
            except grpc.RpcError as exc:
                if isinstance(exc, grpc.Call) and exc.code() == grpc.StatusCode.NOT_FOUND:
                    return
                raise translate(exc, self.address) from exc
            finally:
                self._fetching = None
                call.cancel()

    def _receive(self, chunks: Iterator[actor_service_pb2.PolicyChunk], sha256: bytes) -> bytes:
        """Read the next policy file of a download and check that it has this hash."""
        data, total = bytearray(), 0
        for chunk in chunks:
            self._heard_at = time.monotonic()
            total = total or chunk.total_bytes
            data += chunk.data
            if max(len(data), total) > MAX_POLICY_BYTES:
                raise self._damage(sha256, f"more than {MAX_POLICY_BYTES} bytes; not taken")
            if len(data) >= total:
                break
        whole = bytes(data)
        if policy_sha256(whole) != sha256:
            what = f"the learner served {len(whole)} bytes of hash {policy_sha256(whole).hex()[:12]}"
            raise self._damage(sha256, f"{what}; its store is damaged, restart it")
        del self._damaged[sha256]
        return whole

    def _damage(self, sha256: bytes, what: str) -> CoveyError:
        """The error for a policy file that is not what it should be: on its way, perhaps, but not thrice."""
        self._damaged[sha256] += 1
        error = RefusedError if self._damaged[sha256] >= MAX_DAMAGED else UnreachableError
        return error(f"policy {sha256.hex()[:12]}: {what}")

    def close(self) -> None:
        """Close the gRPC channel to the learner."""
        self._channel.close()

    def _attempts(self) -> Iterator[None]:
        """Yield once per attempt to connect until the actor leaves, with pauses that grow until the learner answers."""
        while not self._leaving.is_set():
            heard_at = self._heard_at
            for pause in self._waits():
                if self._leaving.is_set():
                    return
                silent_s = time.monotonic() - self._heard_at
                if pause and self._max_reconnect_s is not None and silent_s > self._max_reconnect_s:
                    raise UnreachableError(
                        f"learner {self.address} has not answered for {silent_s:.0f} s; check that it runs there, "
                        "and start this actor again"
                    )
                yield
                if self._heard_at != heard_at:
                    # The learner was heard and lost again. Pause before starting anew, as it may hang up every time.
                    self._waits.sleep(self._waits.rng.uniform(0.0, self._waits.first_s))
                    break

    def _raise_unless_passing(self, exc: grpc.RpcError, *, invalid_argument: type[CoveyError] = RefusedError) -> None:
        """Log a failed call that may succeed when repeated; raise the error of any other."""
        if self._leaving.is_set():
            return
        code = exc.code() if isinstance(exc, grpc.Call) else grpc.StatusCode.UNKNOWN
        error = translate(exc, self.address, invalid_argument=invalid_argument)
        if isinstance(error, UnreachableError) or code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            self._tell_of_absence(error)
            return
        raise error from exc

    def _tell_of_absence(self, error: CoveyError) -> None:
        """Say at once that the learner does not answer, and then once a minute for how long it has not."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = self._told_at = now
            _log.warning("%s; trying again", error)
        elif now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            _log.warning("learner %s has not answered for %.0f s; trying again", self.address, now - self._away_since)

    def _join(self, request: actor_service_pb2.JoinRequest, listener: Listener) -> actor_service_pb2.JoinResponse:
        """Join the learner: tell it which orders are held here, and learn which experience it already has."""
        del request.held_order_ids[:]
        # In this sequence, an order that is answered between the two lines is named twice, and not left out.
        request.held_order_ids.extend(listener.held_order_ids())
        request.held_order_ids.extend(self._outbox.order_ids())
        request.first_held_seq = self._outbox.first_held_seq
        joined = self._stub.Join(request, timeout=JOIN_DEADLINE_S)
        self._heard_at = time.monotonic()
        if self._away_since is not None:
            _log.info("learner %s is back after %.0f s", self.address, self._heard_at - self._away_since)
            self._away_since = None
        self._outbox.resume(joined.resume_after_seq, forget_received=joined.forget_received)
        return joined

    def _work(self, joined: actor_service_pb2.JoinResponse, listener: Listener) -> bool:
        """Exchange messages with the learner until the stream ends; returns whether all work was finished.

        Raises:
            grpc.RpcError: the stream broke.
            RefusedError: the learner sends this actor away.
        """
        interval = joined.heartbeat_interval_s or 5.0
        if not MIN_HEARTBEAT_S <= interval <= MAX_HEARTBEAT_S:  # true for NaN too
            raise RefusedError(
                f"learner {self.address} wants a heartbeat every {interval} s, expected {MIN_HEARTBEAT_S} to "
                f"{MAX_HEARTBEAT_S:.0f}; correct learner.heartbeat_interval_s"
            )
        stream = self._outbox.stream(joined.resume_after_seq)
        finished = threading.Event()
        call = self._stub.Work(self._frames(joined.session, stream, interval, listener, finished))
        watch = threading.Thread(target=self._watch, args=(call, stream, interval), name="covey-watch", daemon=True)
        watch.start()
        try:
            # Called with the stream open, as it may fetch for long: heartbeats show both sides that the other lives.
            listener.on_joined(joined)
            for frame in call:
                self._heard_at = time.monotonic()
                match frame.WhichOneof("kind"):
                    case "ack":
                        for refusal in frame.ack.refusals:
                            why = one_line(f"{refusal.reason}, {refusal.detail}")
                            _log.warning("fragment %d refused: %s", refusal.seq, why)
                        self._outbox.acknowledged(frame.ack.received_seq, frame.ack.durable_seq)
                        if frame.ack.resend_from_seq:
                            stream.resend_from(frame.ack.resend_from_seq)
                    case "order":
                        listener.on_order(frame.order)
                    case "drain":
                        listener.on_drain(frame.drain)
                    case "error":
                        if frame.error.code != _Error.CODE_UNKNOWN_SESSION:
                            raise RefusedError(f"learner {self.address}: {_reason(frame.error)}")
                        return False
            return finished.is_set() and self._outbox.delivered
        finally:
            stream.close()
            call.cancel()

    def _frames(
        self,
        session: str,
        stream: OutboxStream,
        interval: float,
        listener: Listener,
        finished: threading.Event,
    ) -> Iterator[actor_service_pb2.ActorFrame]:
        """Yield the messages that go to the learner: experience and heartbeats, and a goodbye at the end."""
        yield actor_service_pb2.ActorFrame(hello=actor_service_pb2.Hello(session=session))
        beat_at = -math.inf
        while not stream.closed:
            # Also while fragments are sent: a heartbeat says more than that the actor lives.
            if time.monotonic() >= beat_at + interval:
                beat_at = time.monotonic()
                yield self._heartbeat(listener)
            fragment = stream.next(max(0.0, beat_at + interval - time.monotonic()))
            if fragment is not None:
                for part in split_fragment(fragment, PART_BYTES):
                    yield actor_service_pb2.ActorFrame(fragment=part)
            elif self._finish_reason is not None and self._outbox.delivered:
                finished.set()
                yield actor_service_pb2.ActorFrame(
                    finish=actor_service_pb2.Finish(last_seq=self._outbox.last_seq, reason=self._finish_reason)
                )
                return

    def _heartbeat(self, listener: Listener) -> actor_service_pb2.ActorFrame:
        """Make a heartbeat message with the orders and experience that this actor holds and the memory it uses."""
        fragments, size = self._outbox.stats()
        return actor_service_pb2.ActorFrame(
            heartbeat=actor_service_pb2.Heartbeat(
                orders_held=len(listener.held_order_ids()),
                outbox_fragments=fragments,
                outbox_bytes=size,
                rss_bytes=rss_bytes(),
            )
        )

    def _watch(self, call: grpc.Call, stream: OutboxStream, interval: float) -> None:
        """End a stream to a learner that has been silent for two heartbeat intervals and a second.

        A fetch that runs is ended too: its connection is the same, and nobody reads the stream until it returns.
        """
        while not stream.closed:
            time.sleep(min(1.0, interval / 4))
            if time.monotonic() - self._heard_at > 2 * interval + 1.0:
                if call.cancel():
                    _log.warning("learner %s: silent for two heartbeat intervals; joining again", self.address)
                fetching = self._fetching
                if fetching is not None:
                    fetching.cancel()


def _reason(error: actor_service_pb2.StreamError) -> str:
    """Say why the learner sends this actor away; a code that this version does not know is given as a number."""
    known = error.code in actor_service_pb2.StreamError.Code.values()
    code = (
        actor_service_pb2.StreamError.Code.Name(error.code).removeprefix("CODE_").lower() if known else str(error.code)
    )
    return f"{code}: {one_line(error.message) or 'sends this actor away'}"
