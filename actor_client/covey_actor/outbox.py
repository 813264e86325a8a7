"""Keeps an actor's messages of experience until the learner has them safely."""

from __future__ import annotations

import math
import threading
import time
from collections import deque

from covey.v1 import fragment_pb2
from covey.wire.envelope import envelope_crc32

_LOOK_UP_S = 0.5


class OutboxClosed(Exception):
    """Raised when a message cannot be queued for sending, as the connection to the learner has ended for good."""


class Outbox:
    """Numbers an actor's messages of experience and keeps them until the learner has them safely. Thread-safe.

    A message stays until the learner's journal has it on disk, so that a learner whose machine crashes gets it again.
    One that was received is dropped earlier if space is needed, and at once if the learner said that this is enough.

    Args:
        max_fragments: Most fragments held.
        max_bytes: Most bytes held; a single fragment may be larger.
    """

    def __init__(self, max_fragments: int = 64, max_bytes: int = 64 << 20) -> None:
        self._max_fragments, self._max_bytes = max_fragments, max_bytes
        self._forget_received = False
        self._held: deque[tuple[fragment_pb2.Fragment, int]] = deque()  # fragments, oldest first, with their bytes
        self._bytes = 0
        self._last = 0
        self._received = 0
        self._closed = False
        self._finishing = False
        self._give_up_at = math.inf
        self._changed = threading.Condition()

    def put(self, fragment: fragment_pb2.Fragment) -> int:
        """Queue a message for sending, waiting for space; returns the number that it is given.

        Raises:
            OutboxClosed: the connection has ended, or there was no space until the time that `give_up_after` set.
        """
        with self._changed:
            size = fragment.ByteSize()
            while not self._make_space(size) and not self._closed:
                if time.monotonic() > self._give_up_at:
                    raise OutboxClosed
                self._changed.wait(_LOOK_UP_S)
            if self._closed:
                raise OutboxClosed
            self._last += 1
            fragment.seq = self._last
            fragment.envelope_crc32 = envelope_crc32(fragment)
            self._held.append((fragment, size))
            self._bytes += size
            self._changed.notify_all()
            return self._last

    def acknowledged(self, received: int, durable: int) -> None:
        """Note up to which message number the learner has received all, and up to which it has all on disk."""
        with self._changed:
            self._received = max(self._received, received)
            # What is only received stays: a learner whose machine crashes loses it, and then asks for it again.
            self._drop(self._received if self._forget_received else durable)
            self._changed.notify_all()

    def resume(self, after_seq: int, *, forget_received: bool = False) -> None:
        """Note that a session with the learner begins, and up to which message it has received everything.

        Args:
            after_seq: The learner has everything up to this seq.
            forget_received: Whether fragments need not be kept once they were received.
        """
        with self._changed:
            self._received = after_seq
            self._forget_received = forget_received
            if forget_received:
                self._drop(after_seq)
            self._changed.notify_all()

    def stream(self, after_seq: int) -> OutboxStream:
        """Return an iterator-like view of what one connection sends: messages beyond `after_seq`, then new ones."""
        return OutboxStream(self, after_seq)

    @property
    def first_held_seq(self) -> int:
        """Number of the oldest message that can still be sent; if none is held, that of the next one."""
        with self._changed:
            return self._held[0][0].seq if self._held else self._last + 1

    def order_ids(self) -> list[int]:
        """Return the ids of the learner's orders that the messages held here answer."""
        with self._changed:
            return [fragment.order_id for fragment, _ in self._held]

    @property
    def last_seq(self) -> int:
        """The highest number given to a message so far."""
        with self._changed:
            return self._last

    @property
    def delivered(self) -> bool:
        """Whether the learner has received all messages."""
        with self._changed:
            return self._received >= self._last

    def stats(self) -> tuple[int, int]:
        """Return how many messages are held, and their bytes."""
        with self._changed:
            return len(self._held), self._bytes

    def close(self) -> None:
        """Accept no more messages, and wake all threads that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def finish(self) -> None:
        """Let senders stop waiting once the learner has received all messages, so that they can say goodbye."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def give_up_after(self, seconds: float) -> None:
        """Let `put` wait for space no longer than this from now on. Takes no lock: a signal handler may call it."""
        self._give_up_at = time.monotonic() + seconds

    def _make_space(self, size: int) -> bool:
        """Drop the oldest messages that the learner received until one of this size fits; returns whether it does."""
        while self._held and (len(self._held) >= self._max_fragments or self._bytes + size > self._max_bytes):
            if self._held[0][0].seq > self._received:
                return False
            self._drop(self._held[0][0].seq)
        return True

    def _drop(self, seq: int) -> None:
        """Drop all messages up to this number."""
        while self._held and self._held[0][0].seq <= seq:
            self._bytes -= self._held.popleft()[1]


class OutboxStream:
    """The position of one connection in the queue of messages to send; each new connection has its own."""

    def __init__(self, outbox: Outbox, after_seq: int) -> None:
        self._outbox = outbox
        self._next = after_seq + 1
        self.closed = False

    def next(self, timeout_s: float) -> fragment_pb2.Fragment | None:
        """Wait for the next message to send; None after the timeout, or when all are received and the actor leaves."""
        box = self._outbox
        deadline = time.monotonic() + timeout_s
        with box._changed:
            while not self.closed:
                for fragment, _ in box._held:
                    if fragment.seq >= self._next:
                        self._next = fragment.seq + 1
                        return fragment
                if box._finishing and box._received >= box._last:
                    return None
                if not box._changed.wait(max(0.0, deadline - time.monotonic())):
                    return None
            return None

    def resend_from(self, seq: int) -> None:
        """Go back to the message of this number, or to the oldest one held."""
        with self._outbox._changed:
            self._next = min(self._next, seq)
            self._outbox._changed.notify_all()

    def close(self) -> None:
        """Stop sending on this connection: `next` returns None from now on."""
        with self._outbox._changed:
            self.closed = True
            self._outbox._changed.notify_all()
