"""The learner's shared state: its population, who is owed which steps, the journal, and what a person is told.

Two threads meet here under one lock: the gRPC loop (ingest, attendance, orders) and the trainer, which waits on
`changed`. Nothing in here blocks for longer than a buffered write.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable

from covey.config import Config
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
from covey_server.member import Member
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.ledger import MemberLedger
from covey_server.orders.scheduler import Rules, Scheduler
from covey_server.orders.sessions import Session, Sessions
from covey_server.population import Population, Totals
from covey_server.storage.disk_room import DiskRoom
from covey_server.storage.journal import Journal, Kind, Position

logger = logging.getLogger("covey.learner")

KEPT_EVENTS = 20


class Learner:
    """Shared state of a run.

    Args:
        config: Of the run.
        run: Its directory.
        journal: Open for appending.
        epoch: Number of this start, from 0; ids of orders count up from `epoch << 40`.
        build: Makes the population from spaces; called once, by the first valid Join.
        clock: Monotonic seconds.

    Attributes:
        lock: Guards everything here, and all that is reached from here.
        changed: Notified whenever the trainer may have something new to do.
        bell: Rung when orders may leave.
        threads: The threads and tasks that the run lives by.
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
        self.scheduler = Scheduler(
            Rules(
                seed=training.seed,
                fragment_steps=config.actors.fragment_steps,
                turn_steps=config.actors.turn_steps,
                random_steps=training.random_steps,
                max_orders=1 if training.deterministic else 2,
            ),
            lambda member_id: self._of_population().policies.refs(member_id),
            self._exploration_of,
            (epoch << 40) + 1,
        )
        self.sessions = Sessions(config.learner.heartbeat_interval_s, clock)
        self.totals = Totals()
        self.events: deque[str] = deque(maxlen=KEPT_EVENTS)
        # Journalled between these, and played again by a deterministic run that was resumed.
        self.superseded: list[tuple[Position, Position]] = []
        self.room = DiskRoom(self.lock, journal, self._disk_is_full, self.event)

    # -- the run's state ------------------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """What the run is at."""
        return self.progress.state

    @property
    def fault(self) -> Exception | None:
        """What ended the run; None: nothing has."""
        return self.progress.fault

    def become(self, state: RunState) -> None:
        """Enter a state, and wake whoever waits for a change.

        Raises:
            RuntimeError: that state cannot follow the present one.
        """
        with self.changed:
            self.progress.become(state)
            self.changed.notify_all()

    def pause(self) -> None:
        """Issue no further orders and make no further updates.

        Raises:
            RefusedError: the run is not training.
        """
        self._steer(RunState.PAUSED, "a training run; nothing to pause")

    def resume(self) -> None:
        """Go on after a pause.

        Raises:
            RefusedError: the run is not paused.
        """
        self._steer(RunState.TRAINING, "a paused run; nothing to resume")

    def _steer(self, state: RunState, expected: str) -> None:
        with self.lock:
            if self.state not in (RunState.TRAINING, RunState.PAUSED):
                raise RefusedError(f"run is {self.state.value}, expected {expected}")
            self.become(state)

    def fail(self, exc: BaseException, where: str = "") -> None:
        """Something went wrong that the run cannot go on without: the main thread reports it and ends.

        Args:
            exc: What went wrong.
            where: The thread or task that it ended, if it did.
        """
        with self.changed:
            self.progress.fail(exc, where)
            self.changed.notify_all()

    # -- the population -------------------------------------------------------------------------------------------

    @under_lock
    def create_population(self, spaces: EnvironmentSpaces) -> Population:
        """Build experience, members and algorithm, and let the first generation begin."""
        self.population = population = self._build(spaces)
        self.enter_generation(population.members, population.algorithm, 0)
        population.policies.publish(m.member_id for m in population.members)
        if self.state is RunState.WAITING:
            self.become(RunState.TRAINING)
        return population

    @under_lock
    def enter_generation(self, members: list[Member], algorithm: Algorithm, generation: int) -> None:
        """Let these members live and give each its steps.

        No order for them leaves until the trainer has made that durable.
        """
        self._populate(members, algorithm)
        ledgers = [self._begun(m, place, generation, together=True) for place, m in enumerate(members)]
        self.scheduler.begin_generation(ledgers, restart_all=self.config.training.deterministic)

    @under_lock
    def enter_member(self, before: Member, after: Member, algorithm: Algorithm, generation: int) -> None:
        """Let one member begin a generation, in the place of another or going on itself.

        No order for it leaves until the trainer has made that durable; the others go on.
        """
        population = self._of_population()
        place = population.members.index(before)
        self._populate([after if m is before else m for m in population.members], algorithm)
        self.scheduler.begin_member(before.member_id, self._begun(after, place, generation, together=False))

    def _begun(self, member: Member, place: int, generation: int, *, together: bool) -> MemberLedger:
        """The ledger of a member that begins a generation."""
        quota = self._quota(generation)
        ledger = MemberLedger(
            member=member,
            quota=quota,
            limit=quota,
            generation=generation,
            after=self.steps_after(generation),
            durable=False,
        )
        self._of_population().pace.begin(ledger, place, together=together)
        return ledger

    def _populate(self, members: list[Member], algorithm: Algorithm) -> None:
        population = self._of_population()
        population.members, population.algorithm = members, algorithm
        population.policies.forget({m.member_id for m in members})
        population.policies.offer(algorithm.snapshot())

    def _of_population(self) -> Population:
        if self.population is None:
            raise RuntimeError("learner: asked of its population before an actor has joined")
        return self.population

    def _quota(self, generation: int) -> int:
        """Env steps of a member in this generation."""
        training = self.config.training
        return min(training.evo_steps, training.max_steps - generation * training.evo_steps)

    def steps_after(self, generation: int) -> int:
        """Env steps of the generations after this one, where members begin them without waiting for others."""
        training = self.config.training
        waits = self.config.evolution.mode == "generational"
        return 0 if waits else max(0, training.max_steps - (generation + 1) * training.evo_steps)

    @under_lock
    def in_last_generation(self, member_id: int) -> bool:
        """Whether this member has no generation after the one that it is in."""
        training = self.config.training
        return (self.ledger(member_id).generation + 1) * training.evo_steps >= training.max_steps

    @under_lock
    def updates_due(self, member: Member) -> int:
        """Updates that a living member is to make now."""
        return self._of_population().pace.due(self.ledger(member.member_id))

    @under_lock
    def ledger(self, member_id: int) -> MemberLedger:
        """A living member's ledger.

        Raises:
            KeyError: no such member lives.
        """
        ledger = self.scheduler.ledger(member_id)
        if ledger is None:
            raise KeyError(member_id)
        return ledger

    # -- orders ---------------------------------------------------------------------------------------------------

    def next_order(self, key: ActorKey) -> Order | None:
        """An order to send to this actor now, already in the journal; or None.

        Newer policies of the members that its slots serve are serialised first, without the lock.
        """
        with self.lock:
            if not self._may_order(key):
                return None
            policies, served = self._of_population().policies, self.scheduler.members_at(key)
        policies.publish(served)
        with self.lock:
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
            policies.drop_unnamed(self._named_policies)
            return order

    @under_lock
    def _may_order(self, key: ActorKey) -> bool:
        """Whether an order for this actor may leave, if there is something to do."""
        population = self.population
        if population is None or self.state is not RunState.TRAINING or self.room.missing:
            return False
        if not self.scheduler.has_slots(key) or not self.scheduler.has_room(key):
            return False
        return not self.config.training.deterministic or not any(self.updates_due(m) for m in population.members)

    def with_room(self, keys: list[ActorKey]) -> list[ActorKey]:
        """Of these actors, those that may hold another order."""
        with self.lock:
            return [key for key in keys if self.scheduler.has_room(key)]

    @under_lock
    def note_idleness(self) -> None:
        """Start to count idle time if no order is out; called after orders have ended."""
        if self._idle_since is None and not self.scheduler.outstanding():
            self._idle_since = self.clock()

    def policy(self, sha256: bytes) -> bytes | None:
        """A policy file by hash."""
        population = self.population
        return population.policies.get(sha256) if population else None

    @under_lock
    def _named_policies(self) -> set[bytes]:
        """Hashes of what an actor may still ask for."""
        ordered = {ref.sha256 for _, order in self.scheduler.outstanding() for ref in order.policies}
        return ordered.union(self.scheduler.evaluations.named_policies())

    def _exploration_of(self, member_id: int) -> Exploration:
        return self._of_population().algorithm.exploration(self.config, self.ledger(member_id).member)

    # -- the journal, and what is told ----------------------------------------------------------------------------

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

    def find_room(self) -> bool:
        """Whether the disk has room again after it had none.

        Raises:
            StorageError: the disk failed otherwise.
        """
        with self.lock:
            return self.room.look_again()

    def _disk_is_full(self, sentence: str) -> None:
        self.totals.counters["disk_full"] += 1
        self.event(sentence)

    @property
    def training_s(self) -> float:
        """Seconds of training over all lives: from the first actor's Join on."""
        here = 0.0 if self.training_since is None else self.clock() - self.training_since
        return self.totals.training_s + here

    @property
    def members_per_pass(self) -> float:
        """Members that one packed pass updated, on average since the start of the run."""
        return self.totals.members_in_passes / self.totals.passes if self.totals.passes else 0.0

    def count(self, counter: str) -> None:
        """Count something that happens rarely, by the name that status shows."""
        with self.lock:
            self.totals.counters[counter] += 1

    def event(self, text: str) -> None:
        """Something a person should see; what peers say of themselves is part of it."""
        line = one_line(text)
        logger.info("%s", line)
        with self.lock:
            self.events.append(line)
