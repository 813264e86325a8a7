"""The learner's state, and what the wire does to it: actors join, fragments arrive, orders leave.

Two threads meet here under one lock: the gRPC loop (this file's methods, called by the services) and the trainer
(`trainer.py`), which waits on `changed`. Nothing in here blocks for longer than a buffered write.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

from covey.config import Config
from covey.errors import DiskFullError, RefusedError, one_line
from covey.run.directory import RunDirectory
from covey.spaces import EnvironmentSpaces
from covey.v1 import actor_service_pb2 as pb
from covey.v1.environment_pb2 import AgentGroup, EnvironmentSpec, Vectorisation
from covey.v1.fragment_pb2 import IssuedOrder, RevokedOrders
from covey.v1.order_pb2 import Exploration, Order, PolicyRef
from covey.wire.limits import PROTOCOL_VERSION
from covey.wire.messages import spaces_from_proto
from covey_server.algorithms import Algorithm
from covey_server.member import Member
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.exploration import exploration_of
from covey_server.orders.member_work import MemberWork
from covey_server.orders.scheduler import Rules, Scheduler
from covey_server.orders.sessions import AT_WORK, Session, Sessions, check_same_spaces
from covey_server.population import Population, Totals
from covey_server.storage.disk_room import Room
from covey_server.storage.journal import Journal, Kind, Position

logger = logging.getLogger("covey.learner")

MOST_REASON = 300  # characters of what an actor gives as its reason to leave
MOST_NAMED = 3  # actors named one by one


class Learner:
    """Shared state of a run.

    Args:
        config: Of the run.
        run: Its directory.
        journal: Open for appending.
        epoch: Number of this start, from 0; ids of orders count up from `epoch << 40`.
        build: Makes the population from spaces; called once, by the first valid Join.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        journal: Journal,
        epoch: int,
        build: Callable[[EnvironmentSpaces], Population],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.run = run
        self.journal = journal
        self.epoch = epoch
        self.epoch_id = secrets.randbits(63) | 1
        self.clock = clock
        self.started = clock()
        self.training_since: float | None = None
        self._idle_since: float | None = None
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.notify_loop: Callable[[], None] = lambda: None
        self.population: Population | None = None
        self._build = build
        training = config.training
        self.scheduler = Scheduler(
            Rules(
                seed=training.seed,
                fragment_steps=config.actors.fragment_steps,
                turn_steps=config.actors.turn_steps,
                random_steps=training.random_steps,
                max_orders=1 if training.deterministic else 2,
            ),
            self._policies_of,
            self._exploration_of,
            (epoch << 40) + 1,
        )
        self.sessions = Sessions(config.learner.heartbeat_interval_s, clock)
        self.totals = Totals()
        self.events: deque[str] = deque(maxlen=20)
        # Journalled between these, and played again by a deterministic run that was resumed.
        self.superseded: list[tuple[Position, Position]] = []
        self.state = "waiting for the first actor"
        self.fault: BaseException | None = None
        self.room = Room(self)

    # -- joining --------------------------------------------------------------------------------------------------

    def describe(self) -> pb.DescribeResponse:
        """What an actor is to run."""
        environment = self.config.environment
        return pb.DescribeResponse(
            protocol_version=PROTOCOL_VERSION,
            run_name=self.run.name,
            environment=EnvironmentSpec(
                entry_point=environment.name,
                config_json=json.dumps(environment.config),
                train_slots=self.config.train_slots,
                eval_slots=self.config.eval_slots,
                groups=[AgentGroup(group_id=g, agent_ids=ids) for g, ids in (environment.groups or {}).items()],
                vectorisation=Vectorisation.Value(f"VECTORISATION_{self.config.actors.vectorisation.upper()}"),
                step_timeout_s=self.config.actors.step_timeout_s,
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
        spaces = spaces_from_proto(request.spaces, self.config.environment.groups)
        with self.lock:
            if self.state in ("complete", "stopping"):
                raise RefusedError(f"run {self.run.name!r} is {self.state}; there is no work for actors")
            deterministic = self.config.training.deterministic
            others = [s for s in self.sessions.active() if s.actor_id != request.actor_id]
            if deterministic and others:
                raise RefusedError("run is deterministic and has its one actor; set training.deterministic: false")
            if self.population is None:
                self.create_population(spaces)
            population = self.population
            if population is None:
                raise RefusedError("run could not build its population; see the learner's log")
            check_same_spaces(request.actor_id, population.spaces, spaces)
            before = self.sessions.current(request.actor_id)
            replaced = before is not None and before.state in AT_WORK
            session = self.sessions.join(request)
            self.training_since = self.training_since or self.clock()
            if not self.scheduler.has_slots(session.key):
                self.scheduler.add_actor(session.key, request.train_slots, request.eval_slots)
                self.event(f"actor {request.actor_id} joined with {request.train_slots} slots from {request.hostname}")
            if replaced and before is not None and before.key != session.key:
                self.totals.counters["actors_replaced"] += 1
                self._release(before.key, f"actor {request.actor_id} was replaced by a new process")
            self._take_back_lost_orders(session, request)
            self.changed.notify_all()
            return pb.JoinResponse(
                session=session.token,
                epoch=self.epoch_id,
                resume_after_seq=session.received_seq,
                schema_hash=population.schema.hash,
                heartbeat_interval_s=self.config.learner.heartbeat_interval_s,
                compression_level=self.config.actors.compression_level,
                forget_received=self.config.checkpoint.durability == "received",
            )

    def create_population(self, spaces: EnvironmentSpaces) -> None:
        """Build replay, members and algorithm; under the lock."""
        self.population = self._build(spaces)
        self.enter_generation(self.population.members, self.population.algorithm, 0)
        if self.state == "waiting for the first actor":
            self.state = "training"

    def enter_generation(self, members: list[Member], algorithm: Algorithm, generation: int) -> None:
        """Let these members live and give each its steps; under the lock.

        No order for them leaves until the trainer has made that durable.
        """
        rounds = {m.member_id: int(m.hyperparameters["learn_step"]) for m in members}
        self.scheduler.begin_generation(
            generation,
            dict.fromkeys(rounds, self._quota(generation)),
            rounds if self.config.algorithm.on_policy else None,
            restart_all=self.config.training.deterministic,
        )
        for work in self.scheduler.living:
            work.durable, work.after = False, self.steps_after(generation)
        self._populate(members, algorithm)

    def enter_member(self, before: Member, after: Member, algorithm: Algorithm, generation: int) -> None:
        """Let one member begin a generation, in the place of another or going on itself; under the lock.

        No order for it leaves until the trainer has made that durable; the others go on.
        """
        quota = self._quota(generation)
        work = MemberWork(after.member_id, quota, quota, generation, after=self.steps_after(generation), durable=False)
        round_steps = int(after.hyperparameters["learn_step"]) if self.config.algorithm.on_policy else None
        self.scheduler.begin_member(before.member_id, work, round_steps)
        members = self.population.members if self.population else []
        self._populate([after if m is before else m for m in members], algorithm)

    def _populate(self, members: list[Member], algorithm: Algorithm) -> None:
        population = self.population
        if population is None:
            raise RuntimeError("a generation needs a population")
        population.members, population.algorithm = members, algorithm
        population.policies.forget({m.member_id for m in members})
        population.policies.offer(algorithm.snapshot())

    def _quota(self, generation: int) -> int:
        training = self.config.training
        return min(training.evo_steps, training.max_steps - generation * training.evo_steps)

    def steps_after(self, generation: int) -> int:
        """Env steps of the generations after this one, where members begin them without waiting for others."""
        training = self.config.training
        waits = self.config.evolution.mode == "generational"
        return 0 if waits else max(0, training.max_steps - (generation + 1) * training.evo_steps)

    def in_last_generation(self, member_id: int) -> bool:
        """Whether this member has no generation after the one that it is in."""
        training = self.config.training
        return (self.scheduler.work(member_id).generation + 1) * training.evo_steps >= training.max_steps

    def _take_back_lost_orders(self, session: Session, request: pb.JoinRequest) -> None:
        """Orders this actor got but does not hold any more, and whose fragments it does not hold either, are void."""
        held = set(request.held_order_ids)
        void = [o for o in self.scheduler.orders_out(session.key) if o not in held]
        if void:
            self._revoke(void, f"actor {session.actor_id} came back without them", forget_slots=True)

    # -- orders ---------------------------------------------------------------------------------------------------

    def next_order(self, key: ActorKey) -> Order | None:
        """An order to send to this actor now, already in the journal; or None."""
        with self.lock:
            if self.population is None or self.state != "training" or not self.scheduler.has_slots(key):
                return None
            if self.config.training.deterministic and any(self.updates_owed(m) for m in self.population.members):
                return None
            if self.room.missing:
                return None
            order = self.scheduler.next_order(key)
            if order is not None:
                issued = IssuedOrder(actor_id=key[0], incarnation=key[1], order=order)
                try:
                    self.journal.append(Kind.ORDER, issued.SerializeToString())
                except DiskFullError as exc:
                    self.scheduler.complete(order.order_id, {}, forget_slots=True)
                    self.room.wait(exc)
                    return None
                if self._idle_since is not None:
                    self.totals.idle_s += self.clock() - self._idle_since
                    self._idle_since = None
                self.population.policies.sweep(self._named_policies)
            return order

    def note_idleness(self) -> None:
        """Start to count idle time if no order is out; under the lock, after orders have ended."""
        if self._idle_since is None and not self.scheduler.outstanding():
            self._idle_since = self.clock()

    def policy(self, sha256: bytes) -> bytes | None:
        """A policy file by hash."""
        with self.lock:
            return self.population.policies.get(sha256) if self.population else None

    def _named_policies(self) -> set[bytes]:
        """What an actor may still ask for."""
        ordered = {ref.sha256 for _, order in self.scheduler.outstanding() for ref in order.policies}
        return ordered.union(self.scheduler.evaluations.named_policies())

    def _policies_of(self, member_id: int) -> list[PolicyRef]:
        if self.population is None:
            raise RuntimeError("orders need a population")
        return self.population.policies.refs(member_id)

    def _exploration_of(self, member_id: int) -> Exploration:
        return exploration_of(self.config, self.member(member_id))

    def updates_owed(self, member: Member) -> int:
        """Updates that a living member is to make before it gets on: off-policy its debt, on-policy a whole round's."""
        if self.config.algorithm.on_policy:
            return int(self.scheduler.work(member.member_id).round_complete)
        return member.updates_owed

    def member(self, member_id: int) -> Member:
        """A living member.

        Raises:
            KeyError: no such member lives.
        """
        for member in self.population.members if self.population else ():
            if member.member_id == member_id:
                return member
        raise KeyError(member_id)

    # -- leaving --------------------------------------------------------------------------------------------------

    def start_draining(self, key: ActorKey) -> None:
        """No further orders for this actor."""
        with self.lock:
            self.scheduler.drain(key)
            session = self.sessions.get(key)
            if session is not None and session.state == "active":
                session.state = "draining"

    def lost(self, session: Session, reason: str) -> None:
        """An actor is gone: its orders are final, its steps go to others."""
        with self.lock:
            session.state = "lost"
            self.totals.counters["actors_lost"] += 1
            self._release(session.key, f"actor {session.actor_id} {reason}")

    def quarantined(self, session: Session) -> None:
        """An actor has sent too much that no honest one sends: it is not let in again."""
        with self.lock:
            session.state = "quarantined"
            self.totals.counters["actors_quarantined"] += 1
            what = f"was quarantined after {session.violations} fragments that no honest actor sends"
            self._release(session.key, f"actor {session.actor_id} {what}")

    def finished(self, session: Session, reason: str) -> None:
        """An actor has said goodbye, for the reason that it gives."""
        with self.lock:
            session.state = "finished"
            why = f" ({one_line(reason, MOST_REASON)})" if reason else ""
            self._release(session.key, f"actor {session.actor_id} left{why}")

    def _release(self, key: ActorKey, what: str) -> None:
        revoked, steps = self.scheduler.remove_actor(key)
        self.note_idleness()
        self._note_revoked(revoked, what)
        self.event(f"{what}; its {steps:,} steps {self._go_to(key)}" if steps else what)
        self.changed.notify_all()

    def _go_to(self, key: ActorKey) -> str:
        """Who gets the steps of an actor that is gone."""
        others = [s.actor_id for s in self.sessions.active() if s.key != key and self.scheduler.has_slots(s.key)]
        if not others:
            return "wait for another actor"
        return "went to " + (" and ".join(others) if len(others) <= MOST_NAMED else f"{len(others)} others")

    def _revoke(self, order_ids: list[int], reason: str, *, forget_slots: bool) -> None:
        for order_id in order_ids:
            self.scheduler.complete(order_id, {}, forget_slots=forget_slots)
        self._note_revoked(order_ids, reason)

    def _note_revoked(self, order_ids: list[int], reason: str) -> None:
        if order_ids:
            self.totals.counters["revoked_orders"] += len(order_ids)
            self.room.record(Kind.REVOKED, RevokedOrders(order_ids=order_ids, reason=reason).SerializeToString())

    # -- the rest -------------------------------------------------------------------------------------------------

    def sync_journal(self) -> list[Session]:
        """Make everything appended so far durable; returns the sessions whose durable mark moved.

        Raises:
            StorageError: the disk failed.
        """
        with self.lock:
            marks = self.sessions.received_marks()
        self.journal.sync()
        with self.lock:
            return self.sessions.durable(marks)

    def fail(self, exc: BaseException) -> None:
        """Something went wrong that the run cannot go on without: the main thread reports it and ends."""
        with self.changed:
            self.fault = self.fault or exc
            self.state = "stopping"
            self.changed.notify_all()

    @property
    def training_s(self) -> float:
        """Seconds of training over all lives: from the first actor's Join on."""
        here = 0.0 if self.training_since is None else self.clock() - self.training_since
        return self.totals.training_s + here

    @property
    def members_per_pass(self) -> float:
        """Members that one packed pass updated, on average since the start of the run."""
        return self.totals.members_in_passes / self.totals.passes if self.totals.passes else 0.0

    def event(self, text: str) -> None:
        """Something a person should see; what peers say of themselves is part of it."""
        line = one_line(text)
        logger.info("%s", line)
        self.events.append(line)
