"""Who the actors are, and up to where each has been heard: identity, high-water marks, fencing, liveness.

All is keyed by (actor id, incarnation). A mark outlives the connection, the actor's silence and, in checkpoints, the
learner; so nothing an actor resends is ever taken in twice.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from covey.errors import RefusedError, SpaceError
from covey.run.state_upgrades import check_version
from covey.spaces import EnvironmentSpaces
from covey.v1.actor_service_pb2 import Heartbeat, JoinRequest
from covey.v1.fragment_pb2 import Fragment
from covey.wire.limits import ACTOR_ID, MAX_SLOTS
from covey_server.orders.evaluations import ActorKey


class SessionState(StrEnum):
    """What an actor process is at; the values are those that `covey actors` shows."""

    ACTIVE = "active"
    DRAINING = "draining"  # finishes its orders, gets no further ones, and leaves
    LOST = "lost"  # silent for too long; may come back
    FINISHED = "finished"  # has left, and said so; may come back
    FENCED = "fenced"  # another process has its name now: never comes back
    QUARANTINED = "quarantined"  # sent what no honest actor sends: never comes back


AT_WORK = (SessionState.ACTIVE, SessionState.DRAINING)

_NEXT: dict[SessionState, frozenset[SessionState]] = {
    SessionState.ACTIVE: frozenset(SessionState),
    SessionState.DRAINING: frozenset(SessionState),
    SessionState.LOST: frozenset({SessionState.ACTIVE, SessionState.LOST, SessionState.FENCED}),
    SessionState.FINISHED: frozenset({SessionState.ACTIVE, SessionState.FINISHED, SessionState.FENCED}),
    SessionState.FENCED: frozenset({SessionState.FENCED}),
    SessionState.QUARANTINED: frozenset({SessionState.QUARANTINED}),
}
"""Which states may follow which."""

MAX_TEXT = 255
SILENT_INTERVALS = 1.75
"""Within two, an actor's silence is noticed and its steps are somebody else's."""

VERSION = 1
"""Of the state that a checkpoint keeps."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One incarnation of an actor. Counters are sums over its life; times are seconds."""

    actor_id: str
    incarnation: int
    token: str = ""  # of Join's answer; empty until it joined in this life of the learner
    state: SessionState = SessionState.ACTIVE
    train_slots: int = 0
    eval_slots: int = 0
    hostname: str = ""
    software_version: str = ""
    joined_at: float = 0.0  # on the registry's clock
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
    refused: int = 0
    violations: int = 0  # refused for what no honest actor sends
    lost_fragments: int = 0  # numbers that it no longer held when it came back
    rss_bytes: int = 0  # these three as of its newest heartbeat
    outbox_fragments: int = 0
    outbox_bytes: int = 0

    @property
    def key(self) -> ActorKey:
        """(actor id, incarnation)."""
        return self.actor_id, self.incarnation

    def become(self, state: SessionState) -> None:
        """Enter a state.

        Raises:
            RuntimeError: no actor in the present state can come to be in that one.
        """
        if state not in _NEXT[self.state]:
            raise RuntimeError(f"session of actor {self.actor_id!r}: cannot become {state} while {self.state}")
        self.state = state

    @property
    def at_work(self) -> bool:
        """Whether the actor may send and be sent to."""
        return self.state in AT_WORK

    def classify(self, seq: int) -> Literal["new", "duplicate", "gap"]:
        """What a fragment of this number is: the one expected, one already received, or one too far."""
        if seq <= self.received_seq:
            return "duplicate"
        return "new" if seq == self.received_seq + 1 else "gap"

    def received(self, seq: int) -> None:
        """Move the mark over the fragment expected, accepted or refused.

        Raises:
            ValueError: another number than the one expected.
        """
        if seq != self.received_seq + 1:
            raise ValueError(f"seq {seq} received, expected {self.received_seq + 1}")
        self.received_seq = seq

    def beat(self, heartbeat: Heartbeat) -> None:
        """Note what an actor says of itself."""
        self.rss_bytes = heartbeat.rss_bytes
        self.outbox_fragments, self.outbox_bytes = heartbeat.outbox_fragments, heartbeat.outbox_bytes

    def count(self, fragment: Fragment, wire_bytes: int, rows: int, env_steps: int) -> None:
        """Enter an accepted fragment into the counters."""
        self.wire_bytes += wire_bytes
        self.raw_bytes += fragment.raw_bytes
        self.rows += rows
        self.env_steps += env_steps
        self.eval_env_steps += fragment.eval_steps
        self.wait_s += fragment.wait_s


_SAVED = (
    "actor_id",
    "incarnation",
    "state",
    "train_slots",
    "eval_slots",
    "hostname",
    "software_version",
    "received_seq",
    "wire_bytes",
    "raw_bytes",
    "rows",
    "env_steps",
    "eval_env_steps",
    "wait_s",
    "environment_faults",
    "refused",
    "violations",
    "lost_fragments",
)


class Sessions:
    """All incarnations the learner remembers, in order of their first Join.

    Args:
        heartbeat_interval_s: An actor that is silent for SILENT_INTERVALS of these counts as lost.
        clock: Monotonic seconds.
        retained: How many incarnations are remembered; the longest silent of those that left are forgotten first.
    """

    def __init__(
        self, heartbeat_interval_s: float, clock: Callable[[], float] = time.monotonic, retained: int = 1024
    ) -> None:
        self._limit_s = SILENT_INTERVALS * heartbeat_interval_s
        self._clock = clock
        self._retained = retained
        self._sessions: dict[ActorKey, Session] = {}
        self._by_token: dict[str, Session] = {}
        self.forgotten = 0

    # -- who there is ---------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def by_token(self, token: str) -> Session | None:
        """The session of a token that Join gave out in this life of the learner."""
        return self._by_token.get(token)

    def get(self, key: ActorKey) -> Session | None:
        """The session of an incarnation."""
        return self._sessions.get(key)

    def current(self, actor_id: str) -> Session | None:
        """The newest incarnation of an actor, whatever its state."""
        return next((s for s in reversed(self._sessions.values()) if s.actor_id == actor_id), None)

    def active(self) -> list[Session]:
        """Those that are at work: active or draining."""
        return [s for s in self._sessions.values() if s.at_work]

    # -- joining --------------------------------------------------------------------------------------------------

    def join(self, request: JoinRequest) -> Session:
        """Admit an actor, new or back again; `received_seq` says what it is to send next.

        A new incarnation fences the others of its name. Where the actor no longer holds the number expected, the loss
        is counted and the mark moves to what it holds.

        Raises:
            RefusedError: the name, the incarnation or the slots are not acceptable, the incarnation was fenced, or
                too many actors are there.
        """
        _check_request(request)
        session = self._sessions.get((request.actor_id, request.incarnation))
        if session is not None and session.state is SessionState.FENCED:
            raise RefusedError(
                f"actor {request.actor_id!r}: a newer process has joined under this name; end this one, "
                "or start it with another --name"
            )
        if session is not None and session.state is SessionState.QUARANTINED:
            raise RefusedError(
                f"actor {request.actor_id!r}: was sent away for {session.violations} fragments that no honest actor "
                "sends; see what made them, then start it again"
            )
        if session is not None and session.token and not _same_slots(session, request):
            raise RefusedError(
                f"actor {request.actor_id!r}: came back with {request.train_slots} training and {request.eval_slots} "
                f"evaluation slots, expected {session.train_slots} and {session.eval_slots}; restart the actor"
            )
        now = self._clock()
        if session is None:
            session = self._new(request.actor_id, request.incarnation, now)
        session.train_slots, session.eval_slots = request.train_slots, request.eval_slots
        session.hostname, session.software_version = _line(request.hostname), _line(request.software_version)
        session.last_seen = now
        if session.state is not SessionState.DRAINING:
            session.become(SessionState.ACTIVE)
        if request.first_held_seq > session.received_seq + 1:
            session.lost_fragments += request.first_held_seq - session.received_seq - 1
            session.received_seq = request.first_held_seq - 1
        if not session.token:
            session.token = secrets.token_urlsafe(24)
            self._by_token[session.token] = session
        return session

    def _new(self, actor_id: str, incarnation: int, now: float) -> Session:
        if len(self._sessions) >= self._retained:
            self._forget_one(actor_id)
        for other in self._sessions.values():
            if other.actor_id == actor_id and (other.at_work or other.state is SessionState.LOST):
                other.become(SessionState.FENCED)
        session = Session(actor_id=actor_id, incarnation=incarnation, joined_at=now, last_seen=now)
        self._sessions[session.key] = session
        return session

    def _forget_one(self, joining: str) -> None:
        gone = [s for s in self._sessions.values() if not s.at_work]
        if not gone:
            raise RefusedError(
                f"actor {joining!r}: {len(self._sessions)} actors are at work, expected fewer than {self._retained}; "
                "end some, or give each more slots (environment.num_envs)"
            )
        oldest = min(gone, key=lambda s: s.last_seen)
        del self._sessions[oldest.key]
        self._by_token.pop(oldest.token, None)
        self.forgotten += 1

    # -- liveness -------------------------------------------------------------------------------------------------

    def heard(self, session: Session) -> None:
        """A frame of any kind came."""
        session.last_seen = self._clock()

    def silent(self, now: float | None = None) -> list[Session]:
        """Those at work that have not been heard for SILENT_INTERVALS; the caller decides that they are lost."""
        limit = (self._clock() if now is None else now) - self._limit_s
        return [s for s in self.active() if s.last_seen < limit]

    def until_silence_s(self) -> float:
        """Seconds until the next of those at work counts as silent, if nothing is heard of it."""
        return min((s.last_seen for s in self.active()), default=math.inf) + self._limit_s - self._clock()

    def forgive(self, seconds: float) -> None:
        """So long nobody could have been heard: it counts as nobody's silence."""
        for session in self.active():
            session.last_seen += seconds

    # -- marks ----------------------------------------------------------------------------------------------------

    def received_marks(self) -> dict[ActorKey, int]:
        """`received_seq` of every session: taken before the journal is synced, given to `durable` after."""
        return {s.key: s.received_seq for s in self._sessions.values()}

    def durable(self, marks: Mapping[ActorKey, int]) -> list[Session]:
        """Move `durable_seq` up to these marks; returns the sessions whose mark moved."""
        moved = []
        for key, seq in marks.items():
            session = self._sessions.get(key)
            if session is not None and seq > session.durable_seq:
                session.durable_seq = seq
                moved.append(session)
        return moved

    def restore_mark(self, key: ActorKey, seq: int) -> Session:
        """Enter a fragment that a restarted learner finds in its journal, also of actors its checkpoint predates."""
        session = self._sessions.get(key) or self._new(*key, self._clock())
        session.received_seq = session.durable_seq = max(session.received_seq, seq)
        return session

    def expect(self, key: ActorKey) -> bool:
        """Await an actor that has orders of an earlier life; it comes back, or is lost as others are.

        Returns:
            False where it may never come back, so that nobody should wait for it.
        """
        session = self._sessions.get(key) or self._new(*key, self._clock())
        if SessionState.ACTIVE not in _NEXT[session.state]:
            return False
        session.become(SessionState.ACTIVE)
        session.last_seen = self._clock()
        return True

    def to_state(self) -> dict[str, Any]:
        """What a checkpoint keeps of every session, as JSON."""
        sessions = [{name: getattr(s, name) for name in _SAVED} for s in self._sessions.values()]
        return {"version": VERSION, "sessions": sessions}

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Take over `to_state` of an earlier life: what was received is durable, who was at work has to come back.

        Raises:
            StorageError: it is of a newer version.
            KeyError, TypeError, ValueError: no such state.
        """
        check_version("sessions", state, VERSION)
        now = self._clock()
        for saved in state["sessions"]:
            session = Session(**{name: saved[name] for name in _SAVED}, joined_at=now, last_seen=now)
            session.state = SessionState(session.state)
            session.durable_seq = session.received_seq
            self._sessions[session.key] = session


def _check_request(request: JoinRequest) -> None:
    if not ACTOR_ID.fullmatch(request.actor_id):
        raise RefusedError(
            f"actor name {request.actor_id[:80]!r}: expected 1 to 64 letters, digits, '.', '_' or '-'; "
            "give another --name"
        )
    if not request.incarnation:
        raise RefusedError(f"actor {request.actor_id!r}: incarnation 0, expected a random number other than 0")
    if not 1 <= request.train_slots <= MAX_SLOTS or request.eval_slots > MAX_SLOTS:
        raise RefusedError(
            f"actor {request.actor_id!r}: {request.train_slots} training and {request.eval_slots} evaluation slots, "
            f"expected 1 to {MAX_SLOTS} and at most {MAX_SLOTS}; set environment.num_envs accordingly"
        )


def _same_slots(session: Session, request: JoinRequest) -> bool:
    return (session.train_slots, session.eval_slots) == (request.train_slots, request.eval_slots)


def _line(text: str) -> str:
    """One printable line: a peer's text ends up on terminals."""
    return "".join(c for c in text[:MAX_TEXT] if c.isprintable())


def check_same_spaces(actor_id: str, ours: EnvironmentSpaces, theirs: EnvironmentSpaces) -> None:
    """Compare an actor's spaces with the run's.

    Raises:
        SpaceError: they differ; names the first difference, both sides of it.
    """
    fix = "start the actor with the environment and arguments that the learner describes"
    if ours.agent_ids != theirs.agent_ids:
        raise SpaceError(f"actor {actor_id!r}: agents {list(theirs.agent_ids)}, expected {list(ours.agent_ids)}; {fix}")
    for a, b in zip(ours.agents, theirs.agents, strict=True):
        for what in ("observation", "action"):
            if getattr(a, what) != getattr(b, what):
                raise SpaceError(
                    f"actor {actor_id!r}: agent {a.agent_id!r} has {what} space {getattr(b, what)}, "
                    f"expected {getattr(a, what)}; {fix}"
                )
