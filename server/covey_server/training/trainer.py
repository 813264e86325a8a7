"""The trainer thread: makes the updates that fall due, has members evaluated, and has the run checkpointed.

Members are small state machines: collecting (steps are missing), settling (updates are due), evaluating, ready. What
becomes of those that are ready is the evolution mode's to say. Between waits the trainer holds the learner's lock only
to look and to enter results; updates happen outside of it, and the disk is written in a thread of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from covey.errors import DiskFullError, RefusedError
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.coordination.run_state import CLOSED, RunState
from covey_server.coordination.threads import WatchedThread
from covey_server.durability.checkpoint_thread import CheckpointThread
from covey_server.durability.checkpointer import Checkpointer
from covey_server.learner import Learner
from covey_server.orders.ledger import MemberLedger
from covey_server.population import Population
from covey_server.training.evaluator import Evaluator
from covey_server.training.mode import EvolutionMode

FULL_DISK_PAUSE_S = 5.0
"""Between tries to write a checkpoint to a full disk."""

Action = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Writing:
    """A checkpoint on its way to the disk."""

    path: Future[str]
    begun: list[MemberLedger]  # whose beginnings it makes durable
    requests: list[Future[str]]  # who asked for it


class Trainer(WatchedThread):
    """Drives a learner's population from its first step to its last.

    Args:
        learner: The shared state.
        checkpointer: Captures the run.
        mode: The evolution mode.
    """

    def __init__(self, learner: Learner, checkpointer: Checkpointer, mode: EvolutionMode) -> None:
        super().__init__("trainer", learner.threads)
        self._learner = learner
        self._checkpointer = checkpointer
        self._training = learner.config.training
        self.evaluator = Evaluator(learner, checkpointer, mode, self._unpack)
        self._disk = CheckpointThread(checkpointer, learner.threads, self._wake)
        self._unpacked = True  # members' own weights are the newest
        self._stop_requested = False
        self._writing: _Writing | None = None
        self._checkpoint_requests: list[Future[str]] = []
        self._next_try = 0.0  # no checkpoint of itself before, where the disk was full for one

    @property
    def lock(self) -> StateLock:
        """The learner's."""
        return self._learner.lock

    # -- from other threads -----------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Checkpoint and end, as soon as the update in work is done."""
        with self._learner.changed:
            self._stop_requested = True
            if self._learner.progress.may_become(RunState.STOPPING):
                self._learner.become(RunState.STOPPING)
            self._learner.changed.notify_all()

    def request_checkpoint(self, timeout_s: float = 60.0) -> str:
        """Write a checkpoint now; blocks until it is durable and returns its path.

        Raises:
            RefusedError: the run is deterministic, or ends.
            StorageError: it could not be written.
            TimeoutError: no answer in time.
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
        """Train until the run is complete or stopped."""
        self._disk.start()
        try:
            while self._act():
                pass
            if self._writing is not None:
                self._end_checkpoint()
            population = self._learner.population
            complete = self._learner.state is RunState.COMPLETE
            # A deterministic run goes on from where a generation begins, and can only end where the last one does.
            if population is not None and (complete or not self._training.deterministic):
                self._start_checkpoint(population)
                self._end_checkpoint(last=True)
        finally:
            self._disk.stop()
            with self._learner.changed:
                if self._learner.progress.may_become(RunState.STOPPING):
                    self._learner.become(RunState.STOPPING)
                self._learner.changed.notify_all()
            self._learner.bell.ring()

    def _act(self) -> bool:
        """Do the next thing there is to do, or wait for one; False when there is nothing more, ever."""
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
            action()
        return learner.state is not RunState.COMPLETE

    @under_lock
    def _choose(self, population: Population | None) -> Action | None:
        """What to do now: checkpoints first, then updates, then evaluations. Cheap."""
        if population is None:
            return None
        if self._writing is not None:
            if self._writing.path.done():
                return self._end_checkpoint
        elif self._is_checkpoint_due():
            return partial(self._start_checkpoint, population)
        if self._learner.state is not RunState.TRAINING:
            return None
        due = self._due(population)
        if due:
            return partial(self._update, population, due)
        return self._next_evaluation(population)

    @under_lock
    def _is_checkpoint_due(self) -> bool:
        """Whether somebody asked for a checkpoint, or one is due by time or for members that have just begun."""
        if self._checkpoint_requests:
            return True
        begun = any(not ledger.durable for ledger in self._learner.scheduler.ledgers)
        return time.monotonic() >= self._next_try and (self._checkpointer.is_due or begun)

    @under_lock
    def _next_evaluation(self, population: Population) -> Action | None:
        """Ask for an evaluation, or enter one that is finished."""
        learner = self._learner
        settled = [
            m for m in population.members if learner.ledger(m.member_id).collected and not learner.updates_due(m)
        ]
        everybody = len(settled) == len(population.members)
        # Deterministic: evaluations mixed into training orders would number these by the clock.
        if everybody or not self._training.deterministic:
            for member in settled:
                if not self.evaluator.is_requested(member):
                    return partial(self.evaluator.request, population, member)
        request = learner.scheduler.evaluations.pop_finished()
        if request is not None:
            return partial(self.evaluator.enter, population, request)
        # While the last evaluations run there is time for what comes after them.
        return partial(self._unpack, population) if everybody and not self._unpacked else None

    # -- updates ----------------------------------------------------------------------------------------------------

    @under_lock
    def _due(self, population: Population) -> list[int]:
        """Positions of the members to update now."""
        ledgers = [self._learner.ledger(m.member_id) for m in population.members]
        due = [i for i, ledger in enumerate(ledgers) if population.pace.due(ledger)]
        if not due or self._training.deterministic or len(due) == len(ledgers):
            return due
        return population.pace.ready(ledgers)

    def _update(self, population: Population, due: list[int]) -> None:
        """One packed update of these members."""
        learner, algorithm = self._learner, population.algorithm
        passes, member_updates = algorithm.passes, algorithm.member_updates
        self._unpacked = False
        algorithm.update(due, population.experience)
        population.policies.offer(algorithm.snapshot())
        if population.experience.only_newest_policy:
            # What such a member collects from here on counts only if the new policies play it.
            population.policies.publish(population.members[i].member_id for i in due)
        with learner.changed:
            ledgers = [learner.ledger(population.members[i].member_id) for i in due]
            unblocked = [population.pace.finish_update(ledger) for ledger in ledgers]
            learner.totals.updates += len(due)
            learner.totals.passes += algorithm.passes - passes
            learner.totals.members_in_passes += algorithm.member_updates - member_updates
            settled = not any(learner.updates_due(m) for m in population.members)
        if any(unblocked) or settled:
            learner.bell.ring()

    def _unpack(self, population: Population) -> None:
        """Bring members' own weights up to date."""
        if not self._unpacked:
            population.algorithm.unpack()
            self._unpacked = True

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _start_checkpoint(self, population: Population) -> None:
        """Capture the run, and have it written while training goes on."""
        self._unpack(population)
        with self._learner.changed:
            requests, self._checkpoint_requests = self._checkpoint_requests, []
            begun = [ledger for ledger in self._learner.scheduler.ledgers if not ledger.durable]
            captured = self._checkpointer.capture()
        self._writing = _Writing(self._disk.submit(captured), begun, requests)
        # Their first orders need not wait for this.
        population.policies.publish(ledger.member_id for ledger in begun)

    def _wake(self) -> None:
        with self._learner.changed:
            self._learner.changed.notify_all()

    def _end_checkpoint(self, *, last: bool = False) -> None:
        """Wait until a checkpoint is durable: only then may orders leave for those who begin with it.

        A full disk only delays it, unless it is the last one.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            raise RuntimeError("trainer: no checkpoint is under way")
        try:
            path = self._disk.wait(writing.path)
        except Exception as exc:
            for request in writing.requests:  # whoever asked gets it; the run goes on if that was all
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
