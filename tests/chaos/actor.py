"""`python -m tests.chaos.actor NOTES ARGUMENT...`: a real actor that notes what it makes and what it is promised.

NOTES gets a line, before the real thing happens: `incarnation NAME NUMBER`, `made SEQ SHA256` of a fragment,
`durable SEQ` and `received SEQ` of an acknowledgement.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from tests.chaos.notes import fragment_hash

from covey.v1 import actor_service_pb2, fragment_pb2
from covey_actor import process
from covey_actor.__main__ import main
from covey_actor.connection import Connection, Listener
from covey_actor.outbox import Outbox


def note(line: str) -> None:
    """One write: whatever ends this process, a line is whole or not there."""
    os.write(_notes, f"{line}\n".encode())


class NotedOutbox(Outbox):
    """Says what goes in, and what is said of it."""

    _noted = 0, 0

    def put(self, fragment: fragment_pb2.Fragment) -> int:
        fragment.seq = self.last_seq + 1  # one thread puts
        note(f"made {fragment.seq} {fragment_hash(fragment)}")
        return super().put(fragment)

    def acknowledged(self, received: int, durable: int) -> None:
        before, self._noted = self._noted, (max(received, self._noted[0]), max(durable, self._noted[1]))
        for what, then, now in zip(("received", "durable"), before, self._noted, strict=True):
            if now > then:
                note(f"{what} {now}")
        super().acknowledged(received, durable)


class NotedConnection(Connection):
    """Says who connects."""

    def serve(self, request: actor_service_pb2.JoinRequest, listener: Listener) -> None:
        note(f"incarnation {request.actor_id} {request.incarnation}")
        super().serve(request, listener)


if __name__ == "__main__":
    _notes = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    parts: Any = process
    parts.Outbox, parts.Connection = NotedOutbox, NotedConnection
    sys.exit(main())
