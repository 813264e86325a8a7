"""The learner's shared state: population, scheduler, sessions, journal and the event log that people see.

Two threads use it under one lock: the gRPC loop (accepts fragments, admits actors, sends orders) and the trainer, which
waits on `changed`. While it holds the lock, no method waits for more than a buffered write.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable

from covey.bounds.memory import experience_line, memory_line
from covey.config import Config
from covey.config.sections import FRAGMENT_STEPS
from covey.errors import DiskFullError, RefusedError, one_line
from covey.run.directory import RunDirectory
from covey.spaces import EnvironmentSpaces
from covey.v1.fragment_pb2 import IssuedOrder
from covey.v1.order_pb2 import Exploration, Order
from covey_server.algorithms import Algorithm
from covey_server.coordination.bell import Bell
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.coordination.run_state import RunProgress, RunState
from covey_server.coordination.threads import Threads
from covey_server.curves.points import Curves
from covey_server.evolution.hyperparameters import ranges
from covey_server.member import Member
from covey_server.orders.at_work import ActorsAtWork
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.ledger import MemberLedger
from covey_server.orders.length import GROWTH
from covey_server.orders.rules import Rules
from covey_server.orders.scheduler import Scheduler
from covey_server.orders.session import Session
from covey_server.orders.sessions import Sessions
from covey_server.population import Population, Totals
from covey_server.storage.disk_room import DiskRoom
from covey_server.storage.journal import Journal, Kind, Position

logger = logging.getLogger("covey.learner")

KEPT_EVENTS = 20
"""Number of the newest event lines that `covey status` shows."""


class Learner:
    """The shared state of one run: what the gRPC loop and the trainer read and change under one lock.

    Args:
        config: The run's configuration.
        run: The run's directory.
        journal: The run's journal, open for appending.
        epoch: Number of this start of the learner, from 0; ids of its orders count up from `epoch << 40`.
        build: Makes the population from the environment's spaces; called once, by the first valid Join.
        clock: Returns monotonic seconds.

    Attributes:
        lock: Guards this object and everything reached from it.
        changed: Condition on the lock, notified whenever the trainer may have something new to do.
        at_work: How long actors of this machine have been at work.
        bell: Rung when orders may be sent.
        curves: What the run gives to its curves, on its way to the files.
        threads: The watched threads and tasks; if one ends unexpectedly, the run ends with a fault.
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
        self.lock = StateLock()
        self.changed = self.lock.changed
        self.bell = Bell()
        self.threads = Threads(self.fail)
        self.progress = RunProgress()
        self.population: Population | None = None
        self._build = build
        training = config.training
        shortest = config.actors.fragment_steps or FRAGMENT_STEPS
        # Measured times must not decide what a deterministic run orders.
        pinned = config.actors.fragment_steps is not None or training.deterministic
        self.scheduler = Scheduler(
            Rules(
                seed=training.seed,
                fragment_steps=shortest,
                longest_steps=shortest if pinned else GROWTH * shortest,
                turn_steps=config.actors.turn_steps,
                random_steps=training.random_steps,
                max_orders=1 if training.deterministic else 2,
            ),
            lambda member_id: self._the_population().policies.refs(member_id),
            self._exploration_of,
            (epoch << 40) + 1,
        )
        self.sessions = Sessions(config.learner.heartbeat_interval_s, clock)
        self.at_work = ActorsAtWork(config.actors.vectorisation == "async", clock)
        self.totals = Totals()
        self.curves = Curves(ranges(config), lambda: (self.training_s, self.totals.env_steps))
        self.events: deque[str] = deque(maxlen=KEPT_EVENTS)
        # Ranges of the journal that do not count: a resumed deterministic run played these steps again.
        self.superseded: list[tuple[Position, Position]] = []
        self.room = DiskRoom(self.lock, journal, self._disk_is_full, self.event)

    # -- the run's state ------------------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """The run's present state."""
        return self.progress.state

    @property
    def fault(self) -> Exception | None:
        """The error that ended the run; None while the run has had none."""
        return self.progress.fault

    def become(self, state: RunState) -> None:
        """Enter a state of the run, and wake every thread that waits on `changed`.

        Raises:
            RuntimeError: that state cannot follow the present one.
        """
        with self.changed:
            self.progress.become(state)
            self.changed.notify_all()

    def pause(self) -> None:
        """Pause the run: no further orders are issued and no further updates made until it is resumed.

        Raises:
            RefusedError: the run is not training.
        """
        self._pause_or_resume(RunState.PAUSED, "a training run; nothing to pause")

    def resume(self) -> None:
        """Resume a paused run: issue orders and make updates again.

        Raises:
            RefusedError: the run is not paused.
        """
        self._pause_or_resume(RunState.TRAINING, "a paused run; nothing to resume")

    def _pause_or_resume(self, state: RunState, expected: str) -> None:
        """Enter the paused or the training state; `expected` names, for the error, the state that the request needs."""
        with self.lock:
            if self.state not in (RunState.TRAINING, RunState.PAUSED):
                raise RefusedError(f"run is {self.state.value}, expected {expected}")
            self.become(state)

    def fail(self, exc: BaseException, where: str = "") -> None:
        """End the run with an error that it cannot survive; the main thread reports it and exits.

        Args:
            exc: The error.
            where: Name of the thread or task that the error ended; empty if it ended none.
        """
        with self.changed:
            self.progress.fail(exc, where)
            self.changed.notify_all()

    # -- the population -------------------------------------------------------------------------------------------

    @under_lock
    def create_population(self, spaces: EnvironmentSpaces) -> Population:
        """Build members, algorithm and experience from the environment's spaces, and begin the first generation."""
        self.population = population = self._build(spaces)
        self.enter_generation(population.members, population.algorithm, 0)
        population.policies.publish(m.member_id for m in population.members)
        self.event(memory_line(population.algorithm.planned_memory(self.config, spaces)))
        self.event(experience_line(self.config, spaces))
        if self.state is RunState.WAITING:
            self.become(RunState.TRAINING)
        return population

    @under_lock
    def enter_generation(self, members: list[Member], algorithm: Algorithm, generation: int) -> None:
        """Make these members the population and begin a generation with all of them, each with its quota of env steps.

        No order is issued for them until a checkpoint has made their beginning durable.
        """
        self._populate(members, algorithm)
        ledgers = [self._new_ledger(m, place, generation, together=True) for place, m in enumerate(members)]
        self.scheduler.begin_generation(ledgers, restart_all=self.config.training.deterministic)

    @under_lock
    def enter_member(self, before: Member, after: Member, algorithm: Algorithm, generation: int) -> None:
        """Let one member begin its next generation, either `before` itself or `after` in its place; the others go on.

        No order is issued for it until a checkpoint has made its beginning durable.
        """
        population = self._the_population()
        place = population.members.index(before)
        self._populate([after if m is before else m for m in population.members], algorithm)
        self.scheduler.begin_member(before.member_id, self._new_ledger(after, place, generation, together=False))

    def _new_ledger(self, member: Member, place: int, generation: int, *, together: bool) -> MemberLedger:
        """A new ledger, with the generation's quota of env steps, for a member that begins a generation."""
        quota = self._quota(generation)
        ledger = MemberLedger(
            member=member,
            quota=quota,
            limit=quota,
            generation=generation,
            later_steps=self.later_steps(generation),
            durable=False,
        )
        self._the_population().pace.begin(ledger, place, together=together)
        return ledger

    def _populate(self, members: list[Member], algorithm: Algorithm) -> None:
        """Make these members the living population; forget the policies of others and offer the newest weights."""
        population = self._the_population()
        self.curves.enter(population.members, members)
        population.members, population.algorithm = members, algorithm
        population.policies.forget({m.member_id for m in members})
        population.policies.offer(algorithm.snapshot())

    def _the_population(self) -> Population:
        """The run's population, which exists once an actor has joined.

        Raises:
            RuntimeError: no actor has joined yet, so there is none.
        """
        if self.population is None:
            raise RuntimeError("the learner has no population yet, expected an actor to have joined before")
        return self.population

    def _quota(self, generation: int) -> int:
        """Env steps that each member gets in this generation; the last one may be shorter."""
        training = self.config.training
        return min(training.evo_steps, training.max_steps - generation * training.evo_steps)

    def later_steps(self, generation: int) -> int:
        """Env steps of a member's generations after this one; 0 in generational mode, where members wait."""
        training = self.config.training
        waits = self.config.evolution.mode == "generational"
        return 0 if waits else max(0, training.max_steps - (generation + 1) * training.evo_steps)

    @under_lock
    def in_last_generation(self, member_id: int) -> bool:
        """Whether this member has no further generation after its present one."""
        training = self.config.training
        return (self.ledger(member_id).generation + 1) * training.evo_steps >= training.max_steps

    @under_lock
    def updates_due(self, member: Member) -> int:
        """Number of updates that a living member is to make now."""
        return self._the_population().pace.due(self.ledger(member.member_id))

    @under_lock
    def ledger(self, member_id: int) -> MemberLedger:
        """The ledger of a living member: its env steps and updates in the present generation.

        Raises:
            KeyError: no such member lives.
        """
        ledger = self.scheduler.ledger(member_id)
        if ledger is None:
            raise KeyError(member_id)
        return ledger

    # -- orders ---------------------------------------------------------------------------------------------------

    def next_order(self, key: ActorKey) -> Order | None:
        """Create an order for this actor and write it to the journal; None if there is nothing for the actor to do now.

        Newer policies of the members that its slots serve are serialised first, without the lock.
        """
        with self.lock:
            if not self._may_order(key):
                return None
            # Serialising weights takes milliseconds; ingest and the trainer need the lock meanwhile.
            policies, served = self._the_population().policies, self.scheduler.members_at(key)
        policies.publish(served)
        with self.lock:
            # The lock was released in between: what allowed an order before may have changed.
            if not self._may_order(key):
                return None
            order = self.scheduler.next_order(key)
            if order is None:
                return None
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
            self.at_work.begin(self.sessions.get(key))
            policies.drop_unnamed(self._named_policies)
            return order

    @under_lock
    def _may_order(self, key: ActorKey) -> bool:
        """Whether this actor may get an order now, if the scheduler has work for it."""
        population = self.population
        if population is None or self.state is not RunState.TRAINING or self.room.missing:
            return False
        if not self.scheduler.has_slots(key) or not self.scheduler.has_order_capacity(key):
            return False
        # A deterministic run alternates strictly: no steps are ordered while updates are due, so that no timing decides
        # which weights play them.
        return not self.config.training.deterministic or not any(self.updates_due(m) for m in population.members)

    def with_order_capacity(self, keys: list[ActorKey]) -> list[ActorKey]:
        """Of these actors, the ones that may be given another order."""
        with self.lock:
            return [key for key in keys if self.scheduler.has_order_capacity(key)]

    @under_lock
    def note_idleness(self, key: ActorKey) -> None:
        """Note that orders of this actor have ended: with its last one its work ends, without any idle time begins."""
        if not self.scheduler.orders_out(key):
            self.at_work.end(key)
        if self._idle_since is None and not self.scheduler.outstanding():
            self._idle_since = self.clock()

    def policy(self, sha256: bytes) -> bytes | None:
        """The bytes of a policy file by its SHA-256; None if the learner does not have it (any more)."""
        return self.population.policies.get(sha256) if self.population else None

    @under_lock
    def _named_policies(self) -> set[bytes]:
        """SHA-256 hashes of the policies that actors may still ask for, for outstanding orders and evaluations."""
        ordered = {ref.sha256 for _, order in self.scheduler.outstanding() for ref in order.policies}
        return ordered.union(self.scheduler.evaluations.named_policies())

    def _exploration_of(self, member_id: int) -> Exploration:
        """How this member's training actions are perturbed at its present hyperparameters."""
        return self._the_population().algorithm.exploration(self.config, self.ledger(member_id).member)

    # -- the journal, and what is told ----------------------------------------------------------------------------

    def sync_journal(self) -> list[Session]:
        """Make every journal record appended so far durable; returns the sessions whose durable mark moved.

        Raises:
            StorageError: the disk failed.
        """
        with self.lock:
            # Fragments received during the sync are not covered by it, so the marks are taken before.
            marks = self.sessions.received_marks()
        self.journal.sync()
        with self.lock:
            return self.sessions.durable(marks)

    def retry_full_disk(self) -> bool:
        """Try the disk again if it was full; returns whether it has space again now.

        Raises:
            StorageError: the disk failed for another reason than being full.
        """
        with self.lock:
            return self.room.look_again()

    def _disk_is_full(self, sentence: str) -> None:
        """Count that the disk is full, and log the sentence that says so."""
        self.totals.counters["disk_full"] += 1
        self.event(sentence)

    @property
    def training_s(self) -> float:
        """Seconds of training, summed over all starts of the learner, counted from each start's first Join."""
        here = 0.0 if self.training_since is None else self.clock() - self.training_since
        return self.totals.training_s + here

    @property
    def members_per_pass(self) -> float:
        """Average number of members that one packed update has updated, over the whole run; 0 before the first one."""
        return self.totals.members_in_passes / self.totals.passes if self.totals.passes else 0.0

    def count(self, counter: str) -> None:
        """Increment one of the counters of rare events, for which `covey status` has words by their names."""
        with self.lock:
            self.totals.counters[counter] += 1

    def event(self, text: str) -> None:
        """Log a line for people and keep it among the newest events; control characters that peers sent are removed."""
        line = one_line(text)
        logger.info("%s", line)
        with self.lock:
            self.events.append(line)
