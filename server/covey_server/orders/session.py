"""One actor process as the learner knows it: its state, its last received message, and counters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from covey.v1.actor_service_pb2 import Heartbeat
from covey.v1.fragment_pb2 import Fragment
from covey_server.orders.evaluations import ActorKey


class SessionState(StrEnum):
    """The states of an actor process; the values are the texts that `covey actors` shows."""

    ACTIVE = "active"
    DRAINING = "draining"  # finishes its orders, gets no further ones, and leaves
    LOST = "lost"  # silent for too long; may come back
    FINISHED = "finished"  # has left, and said so; may come back
    FENCED = "fenced"  # another process has its name now: never comes back
    QUARANTINED = "quarantined"  # sent what no honest actor sends: never comes back


AT_WORK = (SessionState.ACTIVE, SessionState.DRAINING)
"""The states in which an actor may send fragments and get orders."""

_NEXT: dict[SessionState, frozenset[SessionState]] = {
    SessionState.ACTIVE: frozenset(SessionState),
    SessionState.DRAINING: frozenset(SessionState),
    SessionState.LOST: frozenset({SessionState.ACTIVE, SessionState.LOST, SessionState.FENCED}),
    SessionState.FINISHED: frozenset({SessionState.ACTIVE, SessionState.FINISHED, SessionState.FENCED}),
    SessionState.FENCED: frozenset({SessionState.FENCED}),
    SessionState.QUARANTINED: frozenset({SessionState.QUARANTINED}),
}
"""The states that may follow each state."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One actor process as the learner knows it: its state, its last received message, and totals over its life.

    Attributes:
        actor_id: The actor's name.
        incarnation: Random number of the actor process, never 0.
        token: The secret in Join's answer that opens a Work stream; empty until the actor joins this start of the
            learner.
        state: What the process is doing.
        train_slots: Number of training slots.
        eval_slots: Number of evaluation slots.
        hostname: Name of its machine, as the actor gives it.
        software_version: The actor's version of covey, as it gives it.
        joined_at: When the session began, in seconds of the registry's clock.
        last_seen: When the last frame came, in seconds of the same clock.
        received_seq: Number of the last fragment received, accepted or refused; all before it were received too.
        durable_seq: Number of the last fragment that is durable in the journal.
        wire_bytes: Compressed bytes of its accepted fragments.
        raw_bytes: The same before compression.
        rows: Rows of its accepted fragments.
        env_steps: Training env steps of its accepted fragments.
        eval_env_steps: Env steps of its evaluation slots.
        wait_s: Seconds that it waited for orders.
        environment_faults: How often its environments raised.
        observations_outside: Observed numbers outside of their space, in fragments since the learner's start.
        refused: Number of refused fragments.
        violations: Refused fragments of a kind that no honest actor sends.
        lost_fragments: Fragments that it no longer held when it came back.
        overdue: How often its orders were taken back because it did not answer in time, while it answered little.
        answered: Fragments accepted since that happened last.
        void_evaluations: Answers in a row that did nothing of the evaluations that it was given.
        evaluated_steps: Env steps of its evaluation slots since an evaluation episode of it counted.
        rss_bytes: Resident memory at its newest heartbeat.
        outbox_fragments: Unacknowledged fragments at its newest heartbeat.
        outbox_bytes: Bytes of these.
    """

    actor_id: str
    incarnation: int
    token: str = ""
    state: SessionState = SessionState.ACTIVE
    train_slots: int = 0
    eval_slots: int = 0
    hostname: str = ""
    software_version: str = ""
    joined_at: float = 0.0
    last_seen: float = 0.0
    received_seq: int = 0
    durable_seq: int = 0
    wire_bytes: int = 0
    raw_bytes: int = 0
    rows: int = 0
    env_steps: int = 0
    eval_env_steps: int = 0
    wait_s: float = 0.0
    environment_faults: int = 0
    observations_outside: int = 0
    refused: int = 0
    violations: int = 0
    lost_fragments: int = 0
    overdue: int = 0
    answered: int = 0
    void_evaluations: int = 0
    evaluated_steps: int = 0
    rss_bytes: int = 0
    outbox_fragments: int = 0
    outbox_bytes: int = 0

    @property
    def key(self) -> ActorKey:
        """Identifies the actor process: (actor id, random number of the process)."""
        return self.actor_id, self.incarnation

    def become(self, state: SessionState) -> None:
        """Change the state of the actor process, such as from active to draining.

        Raises:
            RuntimeError: that state may not follow the present one.
        """
        if not self.may_become(state):
            raise RuntimeError(f"session of actor {self.actor_id!r} cannot become {state} while {self.state}")
        self.state = state

    def may_become(self, state: SessionState) -> bool:
        """Whether the actor process may change from its present state to this one."""
        return state in _NEXT[self.state]

    @property
    def at_work(self) -> bool:
        """Whether the actor may send experience and get orders: it is active, or finishes its last orders."""
        return self.state in AT_WORK

    def classify(self, seq: int) -> Literal["new", "duplicate", "gap"]:
        """Whether a message of this number is the expected next one, a duplicate, or comes after a gap."""
        if seq <= self.received_seq:
            return "duplicate"
        return "new" if seq == self.received_seq + 1 else "gap"

    def received(self, seq: int) -> None:
        """Note that the expected next message was received, whether it was accepted or refused.

        Raises:
            ValueError: the number is not the expected one.
        """
        if seq != self.received_seq + 1:
            raise ValueError(f"seq {seq} received, expected {self.received_seq + 1}")
        self.received_seq = seq

    def beat(self, heartbeat: Heartbeat) -> None:
        """Note what the actor's heartbeat reports: its memory, and how much it has still to deliver."""
        # The actor's own figures, for people: nothing is decided by them.
        self.rss_bytes = heartbeat.rss_bytes
        self.outbox_fragments, self.outbox_bytes = heartbeat.outbox_fragments, heartbeat.outbox_bytes

    def count(self, fragment: Fragment, wire_bytes: int, rows: int, env_steps: int) -> None:
        """Add an accepted message to the actor's totals of bytes, rows, env steps and waiting time.

        Args:
            fragment: The fragment.
            wire_bytes: Length of its compressed rows.
            rows: Number of its rows.
            env_steps: Training env steps among them.
        """
        self.wire_bytes += wire_bytes
        self.raw_bytes += fragment.raw_bytes
        self.rows += rows
        self.env_steps += env_steps
        self.eval_env_steps += fragment.eval_steps
        self.wait_s += fragment.wait_s
