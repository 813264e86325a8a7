"""Keeps track of actor processes: who each is, up to which message it was heard, and whether it is still there.

Everything is keyed by (actor id, incarnation). The number of the last received fragment outlives the connection, the
actor's silence and, in checkpoints, the learner; so nothing that an actor resends is taken in twice.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from covey.errors import RefusedError, SpaceError
from covey.run.state_upgrades import check_version
from covey.spaces import EnvironmentSpaces
from covey.v1.actor_service_pb2 import JoinRequest
from covey.wire.limits import ACTOR_ID, MAX_SLOTS
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.session import Session, SessionState

MAX_TEXT = 255
"""Characters that are kept of a text that an actor gives, such as its host's name."""
SILENT_INTERVALS = 1.75
"""Heartbeat intervals of silence after which an actor counts as lost.

It is less than two, so that within two intervals the silence is noticed and others have the actor's env steps.
"""

VERSION = 1
"""Version of the sessions' state in checkpoints."""

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
"""The fields of a session that checkpoints hold."""


class Sessions:
    """All actor processes that the learner remembers, in the order in which they first joined.

    Args:
        heartbeat_interval_s: An actor counts as lost after SILENT_INTERVALS of these without a frame.
        clock: Returns monotonic seconds.
        retained: Most incarnations to remember; of those not at work, the longest silent is forgotten first.

    Attributes:
        forgotten: Number of incarnations that were forgotten.
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
        """Return the session of the actor that was given this token when it joined; None if there is none."""
        return self._by_token.get(token)

    def get(self, key: ActorKey) -> Session | None:
        """Return the session of an actor process, by its name and the random number of the process; None if unknown."""
        return self._sessions.get(key)

    def current(self, actor_id: str) -> Session | None:
        """Return the session of an actor's newest process, whatever its state; None if the actor is not known."""
        return next((s for s in reversed(self._sessions.values()) if s.actor_id == actor_id), None)

    def active(self) -> list[Session]:
        """Return the sessions of actors at work: active, or finishing their last orders (draining)."""
        return [s for s in self._sessions.values() if s.at_work]

    # -- joining --------------------------------------------------------------------------------------------------

    def join(self, request: JoinRequest) -> Session:
        """Admit an actor, new or back again; the session's `received_seq` says after which message it is to go on.

        A new incarnation fences the others of its name. Where the actor no longer holds the fragment expected next, the
        lost ones are counted and `received_seq` moves to the last one before those that it holds.

        Raises:
            RefusedError: the name, the incarnation or the slots are not acceptable, the incarnation was fenced or
                quarantined,
                or too many actors are at work.
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
                f"actor {request.actor_id!r} was sent away for {session.violations} fragments that no honest actor "
                "sends; see what made them, then start it again"
            )
        if session is not None and session.token and not _same_slots(session, request):
            raise RefusedError(
                f"actor {request.actor_id!r} came back with {request.train_slots} training and {request.eval_slots} "
                f"evaluation slots, expected {session.train_slots} and {session.eval_slots}; restart the actor"
            )
        now = self._clock()
        if session is None:
            session = self._new(request.actor_id, request.incarnation, now)
        session.train_slots, session.eval_slots = request.train_slots, request.eval_slots
        session.hostname, session.software_version = (
            _printable_line(request.hostname),
            _printable_line(request.software_version),
        )
        session.last_seen = now
        if session.state is not SessionState.DRAINING:
            session.become(SessionState.ACTIVE)
        if request.first_held_seq > session.received_seq + 1:
            # The actor dropped these fragments for lack of space: nobody has them any more.
            session.lost_fragments += request.first_held_seq - session.received_seq - 1
            session.received_seq = request.first_held_seq - 1
        if not session.token:
            session.token = secrets.token_urlsafe(24)
            self._by_token[session.token] = session
        return session

    def _new(self, actor_id: str, incarnation: int, now: float) -> Session:
        """Begin an actor process's session, shutting out older processes of its name.

        Where too many sessions are remembered, one is forgotten.
        """
        if len(self._sessions) >= self._retained:
            self._forget_one(actor_id)
        for other in self._sessions.values():
            if other.actor_id == actor_id and (other.at_work or other.state is SessionState.LOST):
                other.become(SessionState.FENCED)
        session = Session(actor_id=actor_id, incarnation=incarnation, joined_at=now, last_seen=now)
        self._sessions[session.key] = session
        return session

    def _forget_one(self, joining: str) -> None:
        """Forget the actor process that has been silent longest, of those not at work.

        Raises:
            RefusedError: all actors are at work, so `joining` cannot be admitted.
        """
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
        """Note that something was heard from this actor just now."""
        session.last_seen = self._clock()

    def silent(self, now: float | None = None) -> list[Session]:
        """Return the actors at work that were not heard for too long, so that the caller can count them as lost."""
        earliest = (self._clock() if now is None else now) - self._limit_s
        return [s for s in self.active() if s.last_seen < earliest]

    def until_silence_s(self) -> float:
        """Return the seconds until the next actor has been silent for too long; infinity without actors."""
        return min((s.last_seen for s in self.active()), default=math.inf) + self._limit_s - self._clock()

    def forgive(self, seconds: float) -> None:
        """Extend every actor's deadline by this time, in which the learner could hear nobody."""
        for session in self.active():
            session.last_seen += seconds

    # -- marks ----------------------------------------------------------------------------------------------------

    def received_marks(self) -> dict[ActorKey, int]:
        """Return the number of the last message received from each actor process.

        Taken before the journal is written to disk, these are given to `durable` afterwards.
        """
        return {s.key: s.received_seq for s in self._sessions.values()}

    def durable(self, marks: Mapping[ActorKey, int]) -> list[Session]:
        """Note up to which message each actor's data is safely on disk; returns the sessions for which that changed."""
        moved = []
        for key, seq in marks.items():
            session = self._sessions.get(key)
            if session is not None and seq > session.durable_seq:
                session.durable_seq = seq
                moved.append(session)
        return moved

    def restore_mark(self, key: ActorKey, seq: int) -> Session:
        """Note that a restarted learner's journal has this message, even of an actor unknown to its checkpoint."""
        session = self._sessions.get(key) or self._new(*key, self._clock())
        session.received_seq = session.durable_seq = max(session.received_seq, seq)
        return session

    def expect(self, key: ActorKey) -> bool:
        """After a restart, wait for an actor that has unanswered orders; if it stays silent, it counts as lost.

        Returns:
            False if the actor may never come back, so that its orders can be revoked at once.
        """
        session = self._sessions.get(key) or self._new(*key, self._clock())
        if not session.may_become(SessionState.ACTIVE):
            return False
        session.become(SessionState.ACTIVE)
        session.last_seen = self._clock()
        return True

    def to_state(self) -> dict[str, Any]:
        """Return all actor sessions as JSON for a checkpoint."""
        sessions = [{name: getattr(s, name) for name in _SAVED} for s in self._sessions.values()]
        return {"version": VERSION, "sessions": sessions}

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Restore all actor sessions from a checkpoint that an earlier learner process wrote.

        What was received is durable, as the journal has it; actors that were at work have to join again.

        Raises:
            StorageError: the state is of a newer version.
            KeyError, TypeError, ValueError: the state is not of this form.
        """
        check_version("sessions", state, VERSION)
        now = self._clock()
        for saved in state["sessions"]:
            session = Session(**{name: saved[name] for name in _SAVED}, joined_at=now, last_seen=now)
            session.state = SessionState(session.state)
            session.durable_seq = session.received_seq
            self._sessions[session.key] = session


def _check_request(request: JoinRequest) -> None:
    """Check the name, process number and numbers of environments with which an actor asks to join.

    Raises:
        RefusedError: one of them is not acceptable.
    """
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
    """Whether an actor comes back with as many training and evaluation environments as before."""
    return (session.train_slots, session.eval_slots) == (request.train_slots, request.eval_slots)


def _printable_line(text: str) -> str:
    """Shorten a text from an actor to MAX_TEXT printable characters, as it is shown on terminals."""
    return "".join(c for c in text[:MAX_TEXT] if c.isprintable())


def check_same_spaces(actor_id: str, ours: EnvironmentSpaces, theirs: EnvironmentSpaces) -> None:
    """Check that an actor's environment has the same agents and spaces as the run's.

    Args:
        actor_id: The actor's name, for the error.
        ours: The run's spaces.
        theirs: The actor's spaces.

    Raises:
        SpaceError: the spaces differ; the error names the first difference and both sides of it.
    """
    fix = "start the actor with the environment and arguments that the learner describes"
    if ours.agent_ids != theirs.agent_ids:
        raise SpaceError(f"actor {actor_id!r}: agents {list(theirs.agent_ids)}, expected {list(ours.agent_ids)}; {fix}")
    if ours.state != theirs.state:
        raise SpaceError(f"actor {actor_id!r}: state {theirs.state}, expected {ours.state}; {fix}")
    for a, b in zip(ours.agents, theirs.agents, strict=True):
        for what in ("observation", "action"):
            if getattr(a, what) != getattr(b, what):
                raise SpaceError(
                    f"actor {actor_id!r}: agent {a.agent_id!r} has {what} space {getattr(b, what)}, "
                    f"expected {getattr(a, what)}; {fix}"
                )
