"""What the learner does when an actor joins, is heard of, falls silent or leaves."""

from __future__ import annotations

import json

from covey.collect.collector import most_train_slots
from covey.config.architecture import asks_for_memory, modules_of
from covey.errors import RefusedError, SpaceError, one_line
from covey.v1 import actor_service_pb2 as pb
from covey.v1.environment_pb2 import AgentGroup, EnvironmentSpec, Vectorisation
from covey.v1.fragment_pb2 import RevokedOrders
from covey.wire.messages import spaces_from_proto
from covey.wire.versions import EVALUATION_SINCE, MEMORY_SINCE, SPOKEN, Versions, agreed_version, needed_version
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.coordination.run_state import CLOSED
from covey_server.learner import Learner
from covey_server.orders.encoder_kinds import check_encoders
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.overdue import OrderWatch
from covey_server.orders.session import Session, SessionState
from covey_server.orders.sessions import check_same_spaces
from covey_server.population import Population
from covey_server.storage.journal import Kind

MOST_REASON = 300  # characters of the reason that an actor gives for leaving
MOST_NAMED = 3  # actors that an event line names one by one; of more only their number

QUARANTINE_AFTER = 3
"""An actor is quarantined after this many fragments of a kind that no honest actor sends."""


FORGIVEN_AFTER = 100
"""After so many answers, orders that were overdue before do not count any more."""


def ack_of(session: Session, resend_from_seq: int = 0) -> pb.Ack:
    """An acknowledgement for this session: how far fragments were received and are durable. Call it under the lock.

    Args:
        session: The actor's session.
        resend_from_seq: Ask for all fragments from this number on again; 0 asks for none.
    """
    return pb.Ack(received_seq=session.received_seq, durable_seq=session.durable_seq, resend_from_seq=resend_from_seq)


class Attendance:
    """Keeps track of which actors are at work. Every public method may be called from any thread.

    Args:
        learner: Its sessions, scheduler and counters are kept up to date here.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        config = learner.config
        self._orders = OrderWatch(config.learner.heartbeat_interval_s, config.actors.step_timeout_s, learner.clock)

    @property
    def lock(self) -> StateLock:
        """The learner's lock, which `under_lock` asserts."""
        return self._learner.lock

    # -- coming ---------------------------------------------------------------------------------------------------

    def describe(self, request: pb.DescribeRequest, peer: str = "an actor") -> pb.DescribeResponse:
        """The answer to an actor's Describe: the environment to run, numbers of slots, and the protocol version.

        Args:
            request: What the actor says of itself.
            peer: Who asks, for events.

        Raises:
            RefusedError: no protocol version is spoken by both sides.
        """
        config = self._learner.config
        environment = config.environment
        evaluation = json.dumps(environment.evaluation_config) if environment.evaluation else None
        return pb.DescribeResponse(
            protocol_version=self._agreed(peer, Versions.of(request)),
            run_name=self._learner.run.name,
            network_modules=modules_of(config.network),
            environment=EnvironmentSpec(
                entry_point=environment.name,
                config_json=json.dumps(environment.config),
                train_slots=config.train_slots,
                eval_slots=config.eval_slots,
                groups=[AgentGroup(group_id=g, agent_ids=ids) for g, ids in (environment.groups or {}).items()],
                vectorisation=Vectorisation.Value(f"VECTORISATION_{config.actors.vectorisation.upper()}"),
                step_timeout_s=config.actors.step_timeout_s,
                joint_seeds=not config.training.deterministic,
                ignore_observations=environment.ignore_observations,
                evaluation_config_json=evaluation,
                frame_stack=environment.frame_stack if environment.frame_stack > 1 else None,
                state=environment.state,
            ),
        )

    def _agreed(self, who: str, actor: Versions) -> int:
        """The protocol version to speak with an actor; where there is none, people are told here too.

        Raises:
            RefusedError: there is none.
        """
        config = self._learner.config
        newer = {
            "environment.evaluation": config.environment.evaluation,
            "environment.frame_stack": config.environment.frame_stack > 1,
            "environment.state": config.environment.state,
        }
        if keys := [key for key, given in newer.items() if given]:
            who = f"{who}, in a run that sets {' and '.join(keys)}"
        elif asks_for_memory(config.network):
            who = f"{who}, in a run whose policies have memory (network.encoder_config.recurrent)"
        elif self._normalises:
            who = f"{who}, in a run that sets algorithm.normalize_observations"
        elif config.algorithm.oldest_protocol_version > SPOKEN.oldest:
            who = f"{who}, in a run of {config.algorithm.name}"
        try:
            return agreed_version(who, actor, Versions(self._oldest(), SPOKEN.newest))
        except RefusedError as exc:
            with self.lock:
                self._learner.count("versions_refused")
                # An actor may ask again and again: told at the first, second, fourth ... time.
                if self._learner.totals.counters["versions_refused"].bit_count() == 1:
                    self._learner.event(f"refused: {exc}")
            raise

    @property
    def _normalises(self) -> bool:
        """Whether policies read normalised observations, which an older actor would not do."""
        return bool(getattr(self._learner.config.algorithm, "normalize_observations", False))

    def _oldest(self) -> int:
        """The oldest protocol version that the run can be served in."""
        environment, population = self._learner.config.environment, self._learner.population
        needed = [self._learner.config.algorithm.oldest_protocol_version]
        stacked = environment.frame_stack > 1
        if environment.ignore_observations or stacked or environment.state or self._normalises:
            needed.append(2)
        if environment.evaluation:  # which an older actor would not know of
            needed.append(EVALUATION_SINCE)
        if asks_for_memory(self._learner.config.network):  # states travel with the rows
            needed.append(MEMORY_SINCE)
        if population is not None:
            needed.append(needed_version(population.spaces))
        return max(SPOKEN.oldest, *needed)

    def join(self, request: pb.JoinRequest) -> pb.JoinResponse:
        """Admit an actor to the run; the first valid Join builds the population.

        Raises:
            RefusedError: the protocol version, name or incarnation is not acceptable, or the run has ended.
            SpaceError: the environment's spaces are not supported, or differ from the run's.
        """
        version = request.protocol_version
        self._agreed(f"actor {one_line(request.actor_id, 64)!r}", Versions(version, version))
        learner = self._learner
        config = learner.config
        spaces = spaces_from_proto(request.spaces, config.environment.groups)
        if (needed := needed_version(spaces)) > version:
            raise RefusedError(
                f"actor {one_line(request.actor_id, 64)!r}: speaks protocol version {version}, expected {needed} for "
                "observations or actions that are a Dict or Tuple, stacks of frames or a state; install a newer covey "
                "there"
            )
        if spaces.frame_stack != (frames := config.environment.frame_stack):
            raise SpaceError(
                f"actor {one_line(request.actor_id, 64)!r}: frame_stack {spaces.frame_stack} in its spaces, expected "
                f"{frames} as environment.frame_stack, which Describe says; install a newer covey there"
            )
        if (spaces.state is not None) != config.environment.state:
            raise SpaceError(
                f"actor {one_line(request.actor_id, 64)!r}: {'a' if spaces.state else 'no'} state in its spaces, "
                f"expected {'one' if config.environment.state else 'none'} as environment.state, which Describe says; "
                "install a newer covey there"
            )
        with self.lock:
            if learner.state in CLOSED:
                raise RefusedError(f"run {learner.run.name!r} is {learner.state.value}; there is no work for actors")
            others = [s for s in learner.sessions.active() if s.actor_id != request.actor_id]
            if config.training.deterministic and others:
                raise RefusedError("run is deterministic and has its one actor; set training.deterministic: false")
            population = learner.population or learner.create_population(spaces)
            check_same_spaces(request.actor_id, population.spaces, spaces)
            check_encoders(request, population.members)
            before = learner.sessions.current(request.actor_id)
            # A newer process of the same name takes over: the older one's orders are taken back below.
            replaced = before if before is not None and before.at_work else None
            session = learner.sessions.join(request)
            learner.training_since = learner.training_since or learner.clock()
            if not learner.scheduler.has_slots(session.key):
                learner.scheduler.add_actor(session.key, request.train_slots, request.eval_slots)
                learner.event(
                    f"actor {request.actor_id} joined with {request.train_slots} slots from {request.hostname}"
                    + self._why_fewer(request.train_slots, population)
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

    def _why_fewer(self, slots: int, population: Population) -> str:
        """A clause for the event log if an actor has fewer training slots than it was asked to have; else empty."""
        asked, schema = self._learner.config.train_slots, population.schema
        if slots >= asked:
            return ""
        why = f": more do not fit into a fragment (a row is {schema.row_bytes:,} bytes)"
        return f", of the {asked} asked for" + why * (asked > most_train_slots(population.spaces, schema))

    @under_lock
    def _take_back_lost_orders(self, session: Session, request: pb.JoinRequest) -> None:
        """Revoke outstanding orders that a rejoining actor has lost: it holds neither them nor their fragments."""
        held = set(request.held_order_ids)
        void = [o for o in self._learner.scheduler.orders_out(session.key) if o not in held]
        for order_id in void:
            self._learner.scheduler.complete(order_id, {}, forget_slots=True)
        self._note_revoked(void, f"actor {session.actor_id} came back without them")

    # -- being heard of -------------------------------------------------------------------------------------------

    def session(self, token: str) -> Session | None:
        """The session that Join gave this token to since the learner's last start; None if there is none."""
        with self.lock:
            return self._learner.sessions.by_token(token)

    def heard(self, session: Session) -> SessionState:
        """Note that a frame of any kind came from an actor; returns its state, as only actors at work may go on."""
        with self.lock:
            if session.at_work:
                self._learner.sessions.heard(session)
            return session.state

    def beat(self, session: Session, heartbeat: pb.Heartbeat) -> None:
        """Note what an actor's heartbeat reports: its memory and the size of its outbox."""
        with self.lock:
            session.beat(heartbeat)

    def until_silence_s(self) -> float:
        """Seconds until the next actor counts as silent if nothing is heard from it; infinity without actors."""
        with self.lock:
            return self._learner.sessions.until_silence_s()

    def forgive(self, seconds: float) -> None:
        """Extend every actor's deadline after the learner itself stood still, and log that.

        Args:
            seconds: How long the learner could hear nobody.
        """
        with self.lock:
            self._learner.sessions.forgive(seconds)
            self._orders.forgive()
            self._learner.event(f"the learner itself stood still for {seconds:.0f} s; no actor is blamed for it")

    def ack(self, key: ActorKey, *, resend: bool = False) -> pb.Ack | None:
        """An acknowledgement for an actor; None if its session is not known.

        Args:
            key: The actor's id and incarnation.
            resend: Whether to ask for every fragment again that was not received.
        """
        with self.lock:
            session = self._learner.sessions.get(key)
            return None if session is None else ack_of(session, session.received_seq + 1 if resend else 0)

    # -- going ----------------------------------------------------------------------------------------------------

    def drain(self, key: ActorKey) -> None:
        """Issue no further orders for this actor, so that it can finish and leave."""
        with self.lock:
            self._learner.scheduler.drain(key)
            session = self._learner.sessions.get(key)
            if session is not None and session.state is SessionState.ACTIVE:
                session.become(SessionState.DRAINING)

    def give_up_silent(self) -> list[ActorKey]:
        """Treat actors that have been silent for too long as lost; returns their keys."""
        with self.lock:
            silent = self._learner.sessions.silent()
            for session in silent:
                self.lost(session, f"silent for {self._learner.clock() - session.last_seen:.0f} s")
            return [session.key for session in silent]

    def take_back_overdue(self) -> list[Session]:
        """Take back the orders of actors that send heartbeats but do not answer in time; others get their env steps.

        In a deterministic run nothing is triggered by time.

        Returns:
            Sessions of actors that were quarantined for it, as they had to be waited for again and again.
        """
        learner = self._learner
        with self.lock:
            if learner.room.missing:  # answers are not taken in at present
                self._orders.forgive()
                return []
            late = self._orders.check({s.key: learner.scheduler.oldest(s.key) for s in learner.sessions.active()})
            if learner.config.training.deterministic:
                return []
            return [s for key, limit_s in late.items() if (s := self._overdue(key, limit_s)) is not None]

    def longest_order_s(self) -> float:
        """The largest time limit, in seconds, of the actors' oldest outstanding orders; 0 without any."""
        with self.lock:
            return self._orders.longest_s()

    @under_lock
    def _overdue(self, key: ActorKey, limit_s: float) -> Session | None:
        """Take back one actor's orders; returns its session if it is quarantined for it."""
        learner = self._learner
        session = learner.sessions.get(key)
        if session is None:
            return None
        session.overdue = 1 if session.answered >= FORGIVEN_AFTER else session.overdue + 1
        session.answered = 0
        learner.count("orders_overdue")
        what = f"actor {session.actor_id} has not answered its order within {limit_s:.0f} s"
        if session.overdue >= QUARANTINE_AFTER:
            session.become(SessionState.QUARANTINED)
            learner.count("actors_quarantined")
            self._release(key, f"{what}, for the third time, and was quarantined")
            return session
        revoked, steps = learner.scheduler.take_back(key)
        learner.note_idleness(key)
        self._note_revoked(revoked, what)
        learner.event(f"{what}; its {steps:,} steps {self._go_to(key)}")
        learner.changed.notify_all()
        return None

    def lost(self, session: Session, reason: str) -> None:
        """Mark an actor as lost: its orders are revoked for good, and their env steps go to other actors."""
        with self.lock:
            session.become(SessionState.LOST)
            self._learner.count("actors_lost")
            self._release(session.key, f"actor {session.actor_id} {reason}")

    def quarantine_if_due(self, session: Session) -> bool:
        """Exclude an actor for good if too many of its fragments were ones that no honest actor sends.

        Returns:
            Whether the actor was excluded.
        """
        with self.lock:
            if session.violations < QUARANTINE_AFTER:
                return False
            session.become(SessionState.QUARANTINED)
            self._learner.count("actors_quarantined")
            what = f"was quarantined after {session.violations} fragments that no honest actor sends"
            self._release(session.key, f"actor {session.actor_id} {what}")
            return True

    def finished(self, session: Session, reason: str) -> None:
        """Mark an actor as finished: it has said that it leaves, and why."""
        with self.lock:
            session.become(SessionState.FINISHED)
            why = f" ({one_line(reason, MOST_REASON)})" if reason else ""
            self._release(session.key, f"actor {session.actor_id} left{why}")

    @under_lock
    def _release(self, key: ActorKey, what: str) -> None:
        """Remove a departed actor from the scheduler, journal its revoked orders, and log where its env steps go."""
        learner = self._learner
        revoked, steps = learner.scheduler.remove_actor(key)
        learner.note_idleness(key)
        self._note_revoked(revoked, what)
        learner.event(f"{what}; its {steps:,} steps {self._go_to(key)}" if steps else what)
        learner.changed.notify_all()

    def _go_to(self, key: ActorKey) -> str:
        """Say, for the event log, which actors take over the env steps of one that is gone."""
        learner = self._learner
        others = [s.actor_id for s in learner.sessions.active() if s.key != key and learner.scheduler.has_slots(s.key)]
        if not others:
            return "wait for another actor"
        return "went to " + (" and ".join(others) if len(others) <= MOST_NAMED else f"{len(others)} others")

    def _note_revoked(self, order_ids: list[int], reason: str) -> None:
        """Count revoked orders and record them in the journal, so that a restarted learner does not wait for them."""
        if order_ids:
            self._learner.totals.counters["revoked_orders"] += len(order_ids)
            record = RevokedOrders(order_ids=order_ids, reason=reason)
            self._learner.room.record(Kind.REVOKED, record.SerializeToString())
