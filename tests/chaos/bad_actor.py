"""`python -m tests.chaos.bad_actor NOTES ADDRESS KIND`: an actor that does not do what it is told, and notes that.

KIND is one of `tests.support.bad_actors`. NOTES gets the lines of `tests.chaos.actor`. It ends with its stream.
"""

from __future__ import annotations

import os
import sys
import time

import grpc
from tests.chaos.notes import fragment_hash
from tests.support.bad_actors import ANSWERS, at_work
from tests.support.scripted_actor import ScriptedActor

from covey.v1 import actor_service_pb2 as pb
from covey.v1.fragment_pb2 import Fragment


class NotedActor(ScriptedActor):
    """Says what it sends, and what is said of it."""

    notes = -1

    def note(self, line: str) -> None:
        """One write: whatever ends this process, a line is whole or not there."""
        os.write(self.notes, f"{line}\n".encode())

    def join(self, **changes: object) -> pb.JoinResponse:
        self.note(f"incarnation {self.actor_id} {self.incarnation}")
        return super().join(**changes)

    def send(self, fragment: Fragment) -> None:
        self.note(f"made {fragment.seq} {fragment_hash(fragment)}")
        super().send(fragment)

    def next(self, *kinds: str) -> pb.LearnerFrame:
        while True:
            frame = super().next(*kinds, "ack")
            if frame.HasField("ack"):
                self.note(f"durable {frame.ack.durable_seq}")
            if frame.WhichOneof("kind") in kinds:
                return frame


def main() -> int:
    """Be bad until the stream ends, or until nobody answers."""
    path, address, kind = sys.argv[1:]
    NotedActor.notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        with at_work(address, ANSWERS[kind], NotedActor) as working:
            while working.is_alive():
                time.sleep(0.1)
    except grpc.RpcError:
        pass  # the learner is away
    return 0


if __name__ == "__main__":
    sys.exit(main())
