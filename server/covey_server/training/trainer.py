"""The trainer thread: pays debts in packed updates, has members evaluated, turns generations over, checkpoints.

Members are small state machines: collecting (steps are missing), settling (updates are owed), evaluating, ready. What
becomes of those that are ready is the evolution mode's to say (`turns`). Between waits the trainer holds the learner's
lock only to look and to enter results; updates happen outside of it, and the disk is written in a thread of its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from covey.errors import DiskFullError, RefusedError
from covey_server.durability.checkpointer import Checkpointer
from covey_server.evolution.fitness import Score, best, fitness_of, with_opponents
from covey_server.evolution.mode import Comparison, Turns
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.orders.evaluations import Request
from covey_server.orders.member_work import MemberWork
from covey_server.population import Population
from covey_server.seeds import derive

logger = logging.getLogger("covey.trainer")

FULL_DISK_PAUSE_S = 5.0
"""Between tries to write a checkpoint to a full disk."""


@dataclass(frozen=True, slots=True)
class _Writing:
    """A checkpoint on its way to the disk."""

    path: Future[str]
    begun: list[MemberWork]  # whose beginnings it makes durable
    requests: list[Future[str]]  # who asked for it


class Trainer(threading.Thread):
    """Drives a learner's population from its first step to its last.

    Args:
        learner: The shared state.
        checkpointer: Writes checkpoints.
        turns: The evolution mode.
    """

    def __init__(
        self,
        learner: Learner,
        checkpointer: Checkpointer,
        turns: Turns,
    ) -> None:
        super().__init__(name="trainer", daemon=True)
        self._learner = learner
        self._checkpointer = checkpointer
        self._turns = turns
        self._config = learner.config
        self._training = learner.config.training
        self._requests: dict[int, Request] = {}
        self._judged: set[int] = set()
        self._confirming: dict[int, Comparison] = {}  # by the member that plays for it
        self._unpacked = True  # members' own weights are the newest
        self._stop_requested = False
        self._disk = ThreadPoolExecutor(1, "checkpoint")
        self._writing: _Writing | None = None
        self._dropped: Future[None] | None = None
        self._checkpoint_requests: list[Future[str]] = []
        self._next_try = 0.0  # no checkpoint of itself before, where the disk was full for one
        self.result: dict[str, object] | None = None

    # -- from other threads -----------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Checkpoint and end, as soon as the update in work is done."""
        with self._learner.changed:
            self._stop_requested = True
            if self._learner.state != "complete":
                self._learner.state = "stopping"
            self._learner.changed.notify_all()

    def request_checkpoint(self, timeout_s: float = 60.0) -> str:
        """Write a checkpoint now; blocks until it is durable and returns its path.

        Raises:
            RefusedError: the run is deterministic.
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
            self._checkpoint_requests.append(request)
            self._learner.changed.notify_all()
        return request.result(timeout_s)

    # -- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until the run is complete or stopped; a failure is left in `learner.fault`."""
        try:
            while self._act():
                pass
            if self._writing is not None:
                self._end_checkpoint()
            # A deterministic run goes on from where a generation begins, and can only end where the last one does.
            if self._learner.population is not None and (
                self._learner.state == "complete" or not self._training.deterministic
            ):
                self._start_checkpoint(self._learner.population)
                self._end_checkpoint(last=True)
        except Exception as exc:  # the main thread reports it and ends the process
            logger.debug("trainer failed", exc_info=True)
            self._learner.fault = self._learner.fault or exc
        finally:
            self._disk.shutdown()
            with self._learner.changed:
                if self._learner.state != "complete":
                    self._learner.state = "stopping"
                self._learner.changed.notify_all()
            self._learner.notify_loop()

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
        return learner.state != "complete"

    def _choose(self, population: Population | None) -> Callable[[], None] | None:
        """What to do now; under the lock, and cheap."""
        if population is None:
            return None
        if self._writing is not None:
            if self._writing.path.done():
                return self._end_checkpoint
        elif self._checkpoint_requests or (
            time.monotonic() >= self._next_try
            and (self._checkpointer.is_due or not all(work.durable for work in self._learner.scheduler.living))
        ):
            return partial(self._start_checkpoint, population)
        if self._learner.state != "training":
            return None
        due = self._due(population)
        if due:
            return partial(self._update, population, due)
        settled = [
            m
            for m in population.members
            if self._learner.scheduler.work(m.member_id).collected and not self._learner.updates_owed(m)
        ]
        # Deterministic: evaluations mixed into training orders would number these by the clock.
        if not self._training.deterministic or len(settled) == len(population.members):
            for member in settled:
                if member.member_id not in self._requests:
                    return partial(self._request_evaluation, population, member)
        request = self._learner.scheduler.evaluations.pop_finished()
        if request is not None:
            return partial(self._enter_evaluation, population, request)
        # While the last evaluations run there is time for what comes after them.
        return None if self._unpacked or len(settled) < len(population.members) else partial(self._unpack, population)

    def phase(self, member: Member) -> str:
        """What a member is at, for people."""
        if member.member_id not in self._requests:
            collected = self._learner.scheduler.work(member.member_id).collected
            return "settling" if collected else "collecting"
        return "ready" if member.member_id in self._judged else "evaluating"

    # -- updates ----------------------------------------------------------------------------------------------------

    def _due(self, population: Population) -> list[int]:
        """Indices of the members to update now.

        Full packs cost what one member costs, so members wait for each other, but nobody for one that is not about to
        come: off-policy, one that owes a single update waits while it still collects; on-policy, one whose round is
        complete waits for rounds of which every step is on its way.
        """
        learner = self._learner
        owing = [i for i, m in enumerate(population.members) if learner.updates_owed(m)]
        if not owing or self._training.deterministic or len(owing) == len(population.members):
            return owing
        if self._config.algorithm.on_policy:
            rounds = [w for w in learner.scheduler.living if w.round_start < w.limit and not w.round_complete]
            return [] if any(w.accepted + w.ordered == w.limit for w in rounds) else owing
        for i in owing:
            member = population.members[i]
            work = learner.scheduler.work(member.member_id)
            if member.updates_owed >= 2 or work.collected or work.blocked:
                return owing
        return []

    def _update(self, population: Population, due: list[int]) -> None:
        learner, algorithm = self._learner, population.algorithm
        passes, member_updates = algorithm.passes, algorithm.member_updates
        self._unpacked = False
        algorithm.update(due, population.experience)
        snapshot = algorithm.snapshot()
        with learner.changed:
            population.policies.offer(snapshot)
            unblocked = [self._settle(population.members[i]) for i in due]
            learner.totals.updates += len(due)
            learner.totals.passes += algorithm.passes - passes
            learner.totals.members_in_passes += algorithm.member_updates - member_updates
            settled = not any(learner.updates_owed(m) for m in population.members)
        if any(unblocked) or settled:
            learner.notify_loop()

    def _settle(self, member: Member) -> bool:
        """Enter a member's update into its ledgers; returns whether it may collect again."""
        work = self._learner.scheduler.work(member.member_id)
        learn_step = int(member.hyperparameters["learn_step"])
        if self._config.algorithm.on_policy:
            work.next_round(learn_step)
            return True
        member.unpaid_steps -= learn_step
        before, work.blocked = work.blocked, member.updates_owed > self._config.learner.max_updates_owed
        return before and not work.blocked

    # -- evaluation -------------------------------------------------------------------------------------------------

    def _request_evaluation(self, population: Population, member: Member) -> None:
        episodes = self._config.eval_episodes
        if self._learner.in_last_generation(member.member_id):  # what is reported in the end rests on more
            episodes = max(episodes, self._training.confirm_episodes)
        self._requests[member.member_id] = self._request(population, member.member_id, "fitness", episodes)

    def _request(self, population: Population, member_id: int, purpose: str, episodes: int) -> Request:
        """Have a member play so many episodes, against the configured opponents."""
        with self._learner.changed:
            players = with_opponents(
                member_id,
                population.spaces.agent_ids,
                self._config.fitness.opponents,
                {m.member_id for m in population.members},
                self._checkpointer.best_member,
                population.policies.refs,
            )
            request = self._learner.scheduler.evaluations.request(
                member_id, purpose, players, self._seeds(purpose, member_id, episodes), self._config.eval_episode_steps
            )
        self._learner.notify_loop()
        return request

    def _seeds(self, purpose: str, member_id: int, count: int) -> list[int]:
        """Seeds of episodes: equal for all members, others in each generation."""
        generation = self._learner.scheduler.work(member_id).generation
        # 31 bits: some environments hand their seed to libraries that take no more.
        return [derive(self._training.seed, purpose, generation, k) & 0x7FFFFFFF for k in range(count)]

    def _enter_evaluation(self, population: Population, request: Request) -> None:
        agent_ids = population.spaces.agent_ids
        returns = [request.results[seed] for seed in sorted(request.results)]
        score = fitness_of(returns, agent_ids, self._config.fitness)
        if request.purpose == "confirm":
            self._confirmed(population, request.member_id, score, len(returns))
            return
        with self._learner.changed:
            member = self._learner.member(request.member_id)
            member.fitness, member.fitness_stderr = score.fitness, score.stderr
            population.lineage.evaluated(member)
            self._judged.add(request.member_id)
        comparison = self._turns.compare(population, member, self._judged)
        if comparison is not None:
            self._compare(population, comparison)

    def _compare(self, population: Population, comparison: Comparison) -> None:
        """Confirm the best of these members where that is reported, else let them have their turn."""
        fittest = best({m.member_id: m.fitness for m in comparison.members})
        if comparison.is_last or self._reaches_target(self._learner.member(fittest).fitness):
            self._confirming[fittest] = comparison
            self._request(population, fittest, "confirm", self._training.confirm_episodes)
            return
        if not any(self._reaches_target(m.fitness) for m in population.members):
            self._checkpointer.target_streak = 0
        self._turn(population, comparison)

    def _reaches_target(self, fitness: float | None) -> bool:
        target = self._training.target_score
        return target is not None and fitness is not None and fitness >= target

    def _confirmed(self, population: Population, member_id: int, score: Score, episodes: int) -> None:
        comparison = self._confirming.pop(member_id)
        reached = self._reaches_target(score.fitness)
        self._checkpointer.target_streak = self._checkpointer.target_streak + 1 if reached else 0
        if not comparison.is_last and self._checkpointer.target_streak < self._training.target_patience:
            self._turn(population, comparison)
            return
        with self._learner.changed:
            member = self._learner.member(member_id)
            member.fitness, member.fitness_stderr = score.fitness, score.stderr
            population.lineage.evaluated(member)
            self._checkpointer.best_member = member_id
            self.result = {
                "generations": self._learner.scheduler.work(member_id).generation + 1,
                "best_member": member_id,
                "best_fitness": score.fitness,
                "best_fitness_stderr": score.stderr,
                "best_fitness_episodes": episodes,
                "best_per_agent": score.per_agent,
                "target_reached": reached,
            }
            self._learner.event(
                f"complete: best member {member_id}, fitness {score.fitness:.2f} +- {score.stderr:.2f} "
                f"over {episodes} fresh episodes"
            )
            self._learner.state = "complete"
        self._learner.notify_loop()

    def _turn(self, population: Population, comparison: Comparison) -> None:
        """Let members go on or be replaced; the next thing the trainer does is to make the outcome durable."""
        self._unpack(population)
        self._turns.turn(population, comparison)
        with self._learner.changed:
            rated = {m.member_id: m.fitness for m in population.members if m.fitness is not None}
            self._checkpointer.best_member = best(rated) if rated else None
            for member in comparison.members:
                del self._requests[member.member_id]
                self._judged.remove(member.member_id)

    def _unpack(self, population: Population) -> None:
        if not self._unpacked:
            population.algorithm.unpack()
            self._unpacked = True

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _start_checkpoint(self, population: Population) -> None:
        """Capture the run, and have it written while training goes on."""
        if self._dropped is not None:
            with contextlib.suppress(DiskFullError):  # it is tried again with every checkpoint
                self._dropped.result()  # raises what it failed by
        self._unpack(population)
        with self._learner.changed:
            requests, self._checkpoint_requests = self._checkpoint_requests, []
            begun = [work for work in self._learner.scheduler.living if not work.durable]
            captured = self._checkpointer.capture()
        path = self._disk.submit(self._checkpointer.write, captured)
        self._writing = _Writing(path, begun, requests)
        path.add_done_callback(self._wake)
        self._dropped = self._disk.submit(self._checkpointer.drop_old)  # behind it: nobody waits for this
        with self._learner.changed:
            for work in begun:  # their first orders need not wait for this
                population.policies.refs(work.member_id)

    def _wake(self, path: Future[str]) -> None:
        del path
        with self._learner.changed:
            self._learner.changed.notify_all()

    def _end_checkpoint(self, *, last: bool = False) -> None:
        """Wait until a checkpoint is durable: only then may orders leave for those who begin with it.

        A full disk only delays it, unless it is the last one.
        """
        assert self._writing is not None
        writing, self._writing = self._writing, None
        try:
            path = writing.path.result()
        except Exception as exc:
            for request in writing.requests:  # whoever asked gets it; the run goes on if that was all
                request.set_exception(exc)
            if isinstance(exc, DiskFullError) and not last:
                self._next_try = time.monotonic() + FULL_DISK_PAUSE_S
                with self._learner.changed:
                    self._learner.totals.counters["checkpoints_failed"] += 1
                    self._learner.event(
                        f"{exc}; the checkpoint before stands, the next try is in {FULL_DISK_PAUSE_S:g} s"
                    )
            elif writing.begun or not writing.requests:
                raise
            return
        with self._learner.changed:
            for work in writing.begun:
                work.durable = True
        if writing.begun:
            self._learner.notify_loop()
        for request in writing.requests:
            request.set_result(path)
