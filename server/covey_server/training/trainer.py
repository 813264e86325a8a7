"""The trainer thread: makes the updates that are due, has members evaluated, and starts checkpoints.

Each member is a small state machine: collecting (env steps are missing), settling (its last updates are due),
evaluating, ready. What becomes of ready members is for the evolution mode to say. The trainer holds the learner's lock
only to look and to enter results; updates are made without it, and the disk is written in a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from covey.errors import DiskFullError, RefusedError
from covey.resources import return_freed_memory
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.coordination.run_state import CLOSED, RunState
from covey_server.coordination.threads import WatchedThread
from covey_server.durability.checkpoint_thread import CheckpointThread
from covey_server.durability.checkpointer import Checkpointer
from covey_server.learner import Learner
from covey_server.orders.ledger import MemberLedger
from covey_server.population import Population
from covey_server.training.divergence import Divergence
from covey_server.training.evaluator import Evaluator
from covey_server.training.mode import EvolutionMode
from covey_server.training.update_threads import UpdateThreads

FULL_DISK_PAUSE_S = 5.0
"""Seconds between attempts to write a checkpoint to a full disk."""

SHORTEST_PATIENCE_S = 60.0
"""Seconds that any piece of the trainer's work may take before it counts as one that hangs."""

MARGIN = 10.0
"""A piece of work may take this many times as long as the longest one before it."""


class Action(NamedTuple):
    """The next thing for the trainer to do, chosen under the lock and called without it.

    Attributes:
        what: What it is, for people, such as "an update".
        do: Does it.
    """

    what: str
    do: Callable[[], None]


class Piece(NamedTuple):
    """The piece of work that the trainer is at.

    Attributes:
        what: What it is, for people, such as "an update".
        taken_s: Seconds that it has taken so far.
        patience_s: Seconds that it may take by what others took before.
    """

    what: str
    taken_s: float
    patience_s: float


@dataclass(frozen=True, slots=True)
class _Writing:
    """A checkpoint that is being written to disk.

    Attributes:
        path: Its path, once it is durable.
        begun: Counts of members whose beginning of a generation becomes durable with it.
        requests: Futures of those who asked for a checkpoint.
    """

    path: Future[str]
    begun: list[MemberLedger]
    requests: list[Future[str]]


class Trainer(WatchedThread):
    """Trains a learner's population from its first env step to its last, in a thread of its own.

    Args:
        learner: The learner's shared state.
        checkpointer: Captures and writes the run.
        mode: The evolution mode.

    Attributes:
        evaluator: Evaluates and compares members; its `result` is the run's.
    """

    def __init__(self, learner: Learner, checkpointer: Checkpointer, mode: EvolutionMode) -> None:
        super().__init__("trainer", learner.threads)
        self._learner = learner
        self._checkpointer = checkpointer
        self._training = learner.config.training
        self.evaluator = Evaluator(learner, checkpointer, mode, self._unpack)
        self._disk = CheckpointThread(checkpointer, learner.threads, self._wake)
        self._divergence = Divergence(learner)
        self._update_threads = UpdateThreads.of(learner.config, learner.at_work, learner.event)
        self._unpacked = True  # members' own weights are the newest
        self._stop_requested = False
        self._writing: _Writing | None = None
        self._checkpoint_requests: list[Future[str]] = []
        self._piece: tuple[str, float] | None = None  # what the trainer is at, and since when
        self._longest_s = 0.0
        self._next_try = 0.0  # after a full disk, no checkpoint is started by itself before this time

    @property
    def lock(self) -> StateLock:
        """The learner's lock; methods marked `under_lock` assert that it is held."""
        return self._learner.lock

    @property
    def piece(self) -> Piece | None:
        """What the trainer is at now; None while it waits for something to do. Any thread may ask."""
        piece = self._piece
        if piece is None:
            return None
        taken_s = self._learner.clock() - piece[1]
        return Piece(piece[0], taken_s, max(SHORTEST_PATIENCE_S, MARGIN * self._longest_s))

    # -- from other threads -----------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Write a last checkpoint and end, as soon as the present update is done."""
        with self._learner.changed:
            self._stop_requested = True
            if self._learner.progress.may_become(RunState.STOPPING):
                self._learner.become(RunState.STOPPING)
            self._learner.changed.notify_all()

    def request_checkpoint(self, timeout_s: float = 60.0) -> str:
        """Have a checkpoint written now, and wait until it is durable; returns its path.

        Args:
            timeout_s: Longest wait, seconds.

        Raises:
            RefusedError: the run is deterministic, or is ending.
            StorageError: the checkpoint could not be written.
            TimeoutError: it was not durable in time.
        """
        if self._training.deterministic:
            raise RefusedError(
                "a deterministic run's checkpoints are those of its generations' beginnings, expected no other; wait "
                "for the next generation, or run without training.deterministic"
            )
        request: Future[str] = Future()
        with self._learner.changed:
            if self._learner.state in CLOSED:
                raise RefusedError(f"run is {self._learner.state.value}; its last checkpoint is written as it ends")
            self._checkpoint_requests.append(request)
            self._learner.changed.notify_all()
        return request.result(timeout_s)

    # -- the thread -------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Train until the run is complete or stopped, then write the last checkpoint."""
        try:
            self._disk.start()
            while self._act():
                pass
            if self._writing is not None:
                self._end_checkpoint()
            population = self._learner.population
            complete = self._learner.state is RunState.COMPLETE
            # A deterministic run has checkpoints only where a generation begins, and where the run is complete.
            if population is not None and (complete or not self._training.deterministic):
                self._start_checkpoint(population)
                self._end_checkpoint(last=True)
        finally:
            self._disk.stop()
            self._refuse_requests()
            with self._learner.changed:
                if self._learner.progress.may_become(RunState.STOPPING):
                    self._learner.become(RunState.STOPPING)
                self._learner.changed.notify_all()
            self._learner.bell.ring()

    def _refuse_requests(self) -> None:
        """Answer with an error everyone who waits for a checkpoint that will not be written any more."""
        with self._learner.changed:
            left, self._checkpoint_requests = self._checkpoint_requests, []
        for request in [*left, *(self._writing.requests if self._writing else [])]:
            if not request.done():
                request.set_exception(RefusedError("run has ended, expected a running one; resume it to checkpoint it"))

    def _act(self) -> bool:
        """Do the next piece of work, or wait up to a second for one; returns False when nothing is left to do."""
        learner = self._learner
        with learner.changed:
            if self._stop_requested or learner.fault is not None:
                return False
            action = self._choose(learner.population)
            if action is None:
                before = time.monotonic()
                learner.changed.wait(timeout=1.0)
                learner.totals.learner_wait_s += time.monotonic() - before
        if action is not None:
            self._do(action)
        return learner.state is not RunState.COMPLETE

    def _do(self, action: Action) -> None:
        """Do a piece of work, and note meanwhile what it is and since when."""
        began = self._learner.clock()
        self._piece = action.what, began
        try:
            action.do()
        finally:
            self._piece = None
            self._longest_s = max(self._longest_s, self._learner.clock() - began)

    @under_lock
    def _choose(self, population: Population | None) -> Action | None:
        """Choose the next piece of work: a checkpoint, else updates, else an evaluation; None to wait."""
        if population is None:
            return None
        if self._writing is not None:
            if self._writing.path.done():
                return Action("the end of a checkpoint", self._end_checkpoint)
        elif self._is_checkpoint_due():
            return Action("a checkpoint", partial(self._start_checkpoint, population))
        if self._learner.state is not RunState.TRAINING:
            return None
        due = self._due(population)
        if due:
            return Action("an update", partial(self._update, population, due))
        return self._next_evaluation(population)

    @under_lock
    def _is_checkpoint_due(self) -> bool:
        """Whether to write a checkpoint now: by request, by time, or because members have begun a generation."""
        if self._checkpoint_requests:
            return True
        begun = any(not ledger.durable for ledger in self._learner.scheduler.ledgers)
        return time.monotonic() >= self._next_try and (self._checkpointer.is_due or begun)

    @under_lock
    def _next_evaluation(self, population: Population) -> Action | None:
        """Return the next piece of evaluation work, None if there is none.

        It is to request an evaluation, to record a finished one, or to copy weights to members while the last are
        played.
        """
        learner = self._learner
        trained = [
            m for m in population.members if learner.ledger(m.member_id).collected and not learner.updates_due(m)
        ]
        all_trained = len(trained) == len(population.members)
        # In a deterministic run evaluations wait for all members: between training orders, the time at which they are
        # requested would decide the numbers of these orders, and so their seeds.
        if all_trained or not self._training.deterministic:
            for member in trained:
                if not self.evaluator.is_requested(member):
                    return Action("the begin of an evaluation", partial(self.evaluator.request, population, member))
        request = learner.scheduler.evaluations.pop_finished()
        if request is not None:
            return Action("the end of an evaluation", partial(self.evaluator.enter, population, request))
        # Unpacking is needed after the last evaluations; while they are played there is time for it.
        if all_trained and not self._unpacked:
            return Action("copying weights", partial(self._unpack, population))
        return None

    # -- updates ----------------------------------------------------------------------------------------------------

    @under_lock
    def _due(self, population: Population) -> list[int]:
        """Return the positions in the population of the members that are to be updated now."""
        ledgers = [self._learner.ledger(m.member_id) for m in population.members]
        due = [i for i, ledger in enumerate(ledgers) if population.pace.due(ledger)]
        if not due or self._training.deterministic or len(due) == len(ledgers):
            return due
        return population.pace.ready(ledgers)

    def _update(self, population: Population, due: list[int]) -> None:
        """Update these members in one batch, publish their new weights, and count their updates."""
        learner, algorithm = self._learner, population.algorithm
        passes, member_updates = algorithm.passes, algorithm.member_updates
        if self._unpacked:
            self._unpacked = False
            algorithm.release()
            return_freed_memory()
        self._update_threads.begin(len(due))
        algorithm.update(due, population.experience)
        self._update_threads.end(len(due))
        population.policies.offer(algorithm.snapshot())
        losses = algorithm.metrics() if learner.curves.losses.wanted else {}
        if losses:
            learner.curves.losses.give(losses)
        self._divergence.look(population, losses)
        if population.experience.only_newest_policy:
            # Env steps that these members collect from here on count only if the new policies play them.
            population.policies.publish(population.members[i].member_id for i in due)
        with learner.changed:
            ledgers = [learner.ledger(population.members[i].member_id) for i in due]
            unblocked = [population.pace.finish_update(ledger) for ledger in ledgers]
            learner.totals.updates += len(due)
            learner.totals.passes += algorithm.passes - passes
            learner.totals.members_in_passes += algorithm.member_updates - member_updates
            none_due = not any(learner.updates_due(m) for m in population.members)
        # Orders may be possible again: a blocked member may collect, or a deterministic run has no update due.
        if any(unblocked) or none_due:
            learner.bell.ring()

    def _unpack(self, population: Population) -> None:
        """Copy weights from the stacked networks to the members' own, if updates were made since the last time."""
        if not self._unpacked:
            population.algorithm.unpack()
            self._unpacked = True
        self._divergence.look(population, {})  # before members that have diverged are replaced

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _start_checkpoint(self, population: Population) -> None:
        """Copy the run's state, and have it written to disk by another thread while training goes on."""
        self._unpack(population)
        with self._learner.changed:
            requests, self._checkpoint_requests = self._checkpoint_requests, []
            begun = [ledger for ledger in self._learner.scheduler.ledgers if not ledger.durable]
            captured = self._checkpointer.capture()
        self._writing = _Writing(self._disk.submit(captured), begun, requests)
        # Serialise the new members' policies while the disk is written: their first orders then need not wait for it.
        population.policies.publish(ledger.member_id for ledger in begun)

    def _wake(self) -> None:
        """Wake the trainer: a checkpoint was written, or could not be."""
        with self._learner.changed:
            self._learner.changed.notify_all()

    def _end_checkpoint(self, *, last: bool = False) -> None:
        """Wait until the checkpoint is on disk; only then may actors get work for members that begin with it.

        A full disk delays the checkpoint, unless it is the last one.

        Raises:
            StorageError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            raise RuntimeError("trainer: no checkpoint is under way")
        try:
            path = self._disk.wait(writing.path)
        except Exception as exc:
            # Those who asked get the error. The run goes on unless it needs this checkpoint for itself.
            for request in writing.requests:
                request.set_exception(exc)
            if isinstance(exc, DiskFullError) and not last:
                self._next_try = time.monotonic() + FULL_DISK_PAUSE_S
                self._learner.count("checkpoints_failed")
                self._learner.event(f"{exc}; the checkpoint before stands, the next try is in {FULL_DISK_PAUSE_S:g} s")
            elif writing.begun or not writing.requests:
                raise
            return
        with self._learner.changed:
            for ledger in writing.begun:
                ledger.durable = True
        if writing.begun:
            self._learner.bell.ring()
        for request in writing.requests:
            request.set_result(path)
