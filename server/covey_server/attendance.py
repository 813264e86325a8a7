"""Actors come, are heard of, fall silent and go: what each of these does to a learner's state."""

from __future__ import annotations

import json

from covey.errors import RefusedError, one_line
from covey.v1 import actor_service_pb2 as pb
from covey.v1.environment_pb2 import AgentGroup, EnvironmentSpec, Vectorisation
from covey.v1.fragment_pb2 import RevokedOrders
from covey.wire.limits import PROTOCOL_VERSION
from covey.wire.messages import spaces_from_proto
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.coordination.run_state import CLOSED
from covey_server.learner import Learner
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.sessions import Session, SessionState, check_same_spaces
from covey_server.storage.journal import Kind

MOST_REASON = 300  # characters of what an actor gives as its reason to leave
MOST_NAMED = 3  # actors named one by one

QUARANTINE_AFTER = 3
"""An actor whose fragments were refused so often for what no honest actor sends is sent away."""


def ack_of(session: Session, resend_from_seq: int = 0) -> pb.Ack:
    """Where this actor stands. Under the learner's lock."""
    return pb.Ack(received_seq=session.received_seq, durable_seq=session.durable_seq, resend_from_seq=resend_from_seq)


class Attendance:
    """Who is at work for a learner. Every public method may be called from any thread.

    Args:
        learner: Whose state it keeps.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    @property
    def lock(self) -> StateLock:
        """The learner's."""
        return self._learner.lock

    # -- coming ---------------------------------------------------------------------------------------------------

    def describe(self) -> pb.DescribeResponse:
        """What an actor is to run."""
        config = self._learner.config
        environment = config.environment
        return pb.DescribeResponse(
            protocol_version=PROTOCOL_VERSION,
            run_name=self._learner.run.name,
            environment=EnvironmentSpec(
                entry_point=environment.name,
                config_json=json.dumps(environment.config),
                train_slots=config.train_slots,
                eval_slots=config.eval_slots,
                groups=[AgentGroup(group_id=g, agent_ids=ids) for g, ids in (environment.groups or {}).items()],
                vectorisation=Vectorisation.Value(f"VECTORISATION_{config.actors.vectorisation.upper()}"),
                step_timeout_s=config.actors.step_timeout_s,
            ),
        )

    def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        """Admit an actor; the first valid one brings the population into being.

        Raises:
            RefusedError: protocol version, name or incarnation are not acceptable, or the run is over.
            SpaceError: the environment's spaces are not supported, or other than the run's.
        """
        if request.protocol_version != PROTOCOL_VERSION:
            raise RefusedError(
                f"actor {request.actor_id!r} speaks protocol {request.protocol_version}, "
                f"expected {PROTOCOL_VERSION}; install the learner's version of covey there"
            )
        learner = self._learner
        config = learner.config
        spaces = spaces_from_proto(request.spaces, config.environment.groups)
        with self.lock:
            if learner.state in CLOSED:
                raise RefusedError(f"run {learner.run.name!r} is {learner.state.value}; there is no work for actors")
            others = [s for s in learner.sessions.active() if s.actor_id != request.actor_id]
            if config.training.deterministic and others:
                raise RefusedError("run is deterministic and has its one actor; set training.deterministic: false")
            population = learner.population or learner.create_population(spaces)
            check_same_spaces(request.actor_id, population.spaces, spaces)
            before = learner.sessions.current(request.actor_id)
            replaced = before if before is not None and before.at_work else None
            session = learner.sessions.join(request)
            learner.training_since = learner.training_since or learner.clock()
            if not learner.scheduler.has_slots(session.key):
                learner.scheduler.add_actor(session.key, request.train_slots, request.eval_slots)
                learner.event(
                    f"actor {request.actor_id} joined with {request.train_slots} slots from {request.hostname}"
                )
            if replaced is not None and replaced.key != session.key:
                learner.count("actors_replaced")
                self._release(replaced.key, f"actor {request.actor_id} was replaced by a new process")
            self._take_back_lost_orders(session, request)
            learner.changed.notify_all()
            return pb.JoinResponse(
                session=session.token,
                epoch=learner.epoch_id,
                resume_after_seq=session.received_seq,
                schema_hash=population.schema.hash,
                heartbeat_interval_s=config.learner.heartbeat_interval_s,
                compression_level=config.actors.compression_level,
                forget_received=config.checkpoint.durability == "received",
            )

    @under_lock
    def _take_back_lost_orders(self, session: Session, request: pb.JoinRequest) -> None:
        """Orders this actor got but does not hold any more, and whose fragments it does not hold either, are void."""
        held = set(request.held_order_ids)
        void = [o for o in self._learner.scheduler.orders_out(session.key) if o not in held]
        for order_id in void:
            self._learner.scheduler.complete(order_id, {}, forget_slots=True)
        self._note_revoked(void, f"actor {session.actor_id} came back without them")

    # -- being heard of -------------------------------------------------------------------------------------------

    def session(self, token: str) -> Session | None:
        """The session of a token that Join gave out in this life of the learner."""
        with self.lock:
            return self._learner.sessions.by_token(token)

    def heard(self, session: Session) -> SessionState:
        """A frame of any kind came; returns what the actor is at: only those at work may send and be sent to."""
        with self.lock:
            if session.at_work:
                self._learner.sessions.heard(session)
            return session.state

    def beat(self, session: Session, heartbeat: pb.Heartbeat) -> None:
        """A heartbeat came, with what the actor says of itself."""
        with self.lock:
            session.beat(heartbeat)

    def until_silence_s(self) -> float:
        """Seconds until the next of those at work counts as silent, if nothing is heard of it."""
        with self.lock:
            return self._learner.sessions.until_silence_s()

    def forgive(self, seconds: float) -> None:
        """For so long the learner could not hear anybody: it counts as nobody's silence."""
        with self.lock:
            self._learner.sessions.forgive(seconds)
            self._learner.event(f"the learner itself stood still for {seconds:.0f} s; no actor is blamed for it")

    def ack(self, key: ActorKey, *, resend: bool = False) -> pb.Ack | None:
        """Where an actor stands; None where it is not known.

        Args:
            key: Whose.
            resend: Whether to ask for everything again that was not taken in.
        """
        with self.lock:
            session = self._learner.sessions.get(key)
            return None if session is None else ack_of(session, session.received_seq + 1 if resend else 0)

    # -- going ----------------------------------------------------------------------------------------------------

    def drain(self, key: ActorKey) -> None:
        """Issue no further orders for this actor."""
        with self.lock:
            self._learner.scheduler.drain(key)
            session = self._learner.sessions.get(key)
            if session is not None and session.state is SessionState.ACTIVE:
                session.become(SessionState.DRAINING)

    def give_up_silent(self) -> list[ActorKey]:
        """Let go of actors that have been silent for too long; returns who they are."""
        with self.lock:
            silent = self._learner.sessions.silent()
            for session in silent:
                self.lost(session, f"silent for {self._learner.clock() - session.last_seen:.0f} s")
            return [session.key for session in silent]

    def lost(self, session: Session, reason: str) -> None:
        """An actor is gone: its orders are final, its steps go to others."""
        with self.lock:
            session.become(SessionState.LOST)
            self._learner.count("actors_lost")
            self._release(session.key, f"actor {session.actor_id} {reason}")

    def quarantine_if_due(self, session: Session) -> bool:
        """Send an actor away for good that has sent too much that no honest one sends; returns whether it was."""
        with self.lock:
            if session.violations < QUARANTINE_AFTER:
                return False
            session.become(SessionState.QUARANTINED)
            self._learner.count("actors_quarantined")
            what = f"was quarantined after {session.violations} fragments that no honest actor sends"
            self._release(session.key, f"actor {session.actor_id} {what}")
            return True

    def finished(self, session: Session, reason: str) -> None:
        """An actor has said goodbye, for the reason that it gives."""
        with self.lock:
            session.become(SessionState.FINISHED)
            why = f" ({one_line(reason, MOST_REASON)})" if reason else ""
            self._release(session.key, f"actor {session.actor_id} left{why}")

    @under_lock
    def _release(self, key: ActorKey, what: str) -> None:
        learner = self._learner
        revoked, steps = learner.scheduler.remove_actor(key)
        learner.note_idleness()
        self._note_revoked(revoked, what)
        learner.event(f"{what}; its {steps:,} steps {self._go_to(key)}" if steps else what)
        learner.changed.notify_all()

    def _go_to(self, key: ActorKey) -> str:
        """Who gets the steps of an actor that is gone, in words."""
        learner = self._learner
        others = [s.actor_id for s in learner.sessions.active() if s.key != key and learner.scheduler.has_slots(s.key)]
        if not others:
            return "wait for another actor"
        return "went to " + (" and ".join(others) if len(others) <= MOST_NAMED else f"{len(others)} others")

    def _note_revoked(self, order_ids: list[int], reason: str) -> None:
        if order_ids:
            self._learner.totals.counters["revoked_orders"] += len(order_ids)
            record = RevokedOrders(order_ids=order_ids, reason=reason)
            self._learner.room.record(Kind.REVOKED, record.SerializeToString())
