"""The trainer thread: pays debts in packed updates, has members evaluated, turns generations over, checkpoints.

Members are small state machines: collecting (steps are missing), settling (updates are owed), evaluating, ready. When
all are ready the generation ends. Between waits the trainer holds the learner's lock only to look and to enter results;
updates, serialisation and disk writes happen outside of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from covey_server.build import PopulationFactory
from covey_server.evaluations import Request
from covey_server.fitness import Score, best, fitness_of, with_opponents
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.population import Population
from covey_server.recovery import Checkpointer
from covey_server.streams import derive

logger = logging.getLogger("covey.trainer")


class Trainer(threading.Thread):
    """Drives a learner's population from its first step to its last.

    Args:
        learner: The shared state.
        checkpointer: Writes checkpoints.
        factory: Makes the next generation.
    """

    def __init__(
        self,
        learner: Learner,
        checkpointer: Checkpointer,
        factory: PopulationFactory,
    ) -> None:
        super().__init__(name="trainer", daemon=True)
        self._learner = learner
        self._checkpointer = checkpointer
        self._factory = factory
        self._config = learner.config
        self._training = learner.config.training
        self._requests: dict[int, Request] = {}
        self._evaluated: set[int] = set()
        self._confirming: Request | None = None
        self._stop_requested = False
        self._checkpoint_requests: list[Future[str]] = []
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
            StorageError: it could not be written.
            TimeoutError: no answer in time.
        """
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
            if self._learner.population is not None:
                self._checkpoint()
        except Exception as exc:  # the main thread reports it and ends the process
            logger.debug("trainer failed", exc_info=True)
            self._learner.fault = self._learner.fault or exc
        finally:
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
            population = learner.population
            action: Callable[[Population], None] | None = None
            if population is not None and self._checkpoint_requests:
                action = self._answer_checkpoint
            elif population is not None and learner.state == "training":
                action = self._choose(population)
            if action is None:
                before = time.monotonic()
                learner.changed.wait(timeout=1.0)
                learner.totals.learner_wait_s += time.monotonic() - before
                if population is not None and self._checkpointer.is_due:
                    action = self._checkpoint_now
        if action is not None and population is not None:
            action(population)
        return learner.state != "complete"

    def _choose(self, population: Population) -> Callable[[Population], None] | None:
        """What to do now; under the lock, and cheap."""
        if self._learner.scheduler.paused:
            return self._open_generation
        due = self._due(population)
        if due:
            return partial(self._update, due=due)
        settled = [
            m
            for m in population.members
            if self._learner.scheduler.work(m.member_id).collected and not self._learner.updates_owed(m)
        ]
        # Deterministic: evaluations mixed into training orders would number these by the clock.
        if not self._training.deterministic or len(settled) == len(population.members):
            for member in settled:
                if member.member_id not in self._requests:
                    return partial(self._request_evaluation, member=member)
        request = self._learner.scheduler.evaluations.pop_finished()
        return None if request is None else partial(self._enter_evaluation, request=request)

    def phase(self, member: Member) -> str:
        """What a member is at, for people."""
        if member.member_id not in self._requests:
            collected = self._learner.scheduler.work(member.member_id).collected
            return "settling" if collected else "collecting"
        return "ready" if member.member_id in self._evaluated else "evaluating"

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

    @property
    def _is_last(self) -> bool:
        return (self._learner.scheduler.generation + 1) * self._training.evo_steps >= self._training.max_steps

    def _seeds(self, purpose: str, count: int) -> list[int]:
        generation = self._learner.scheduler.generation
        # 31 bits: some environments hand their seed to libraries that take no more.
        return [derive(self._training.seed, purpose, generation, k) & 0x7FFFFFFF for k in range(count)]

    def _request_evaluation(self, population: Population, member: Member) -> None:
        episodes = self._config.eval_episodes
        if self._is_last:  # what is reported in the end rests on more
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
                member_id, purpose, players, self._seeds(purpose, episodes), self._config.eval_episode_steps
            )
        self._learner.notify_loop()
        return request

    def _enter_evaluation(self, population: Population, request: Request) -> None:
        agent_ids = population.spaces.agent_ids
        returns = [request.results[seed] for seed in sorted(request.results)]
        score = fitness_of(returns, agent_ids, self._config.fitness)
        if request is self._confirming:
            self._confirming = None
            self._confirmed(population, request.member_id, score, len(returns))
            return
        with self._learner.changed:
            member = self._learner.member(request.member_id)
            member.fitness, member.fitness_stderr = score.fitness, score.stderr
            population.lineage.evaluated(member)
            self._evaluated.add(request.member_id)
            ready = len(self._evaluated) == len(population.members)
        if ready:
            self._generation_evaluated(population)

    def _generation_evaluated(self, population: Population) -> None:
        """Every member has its fitness: confirm the best one where that is reported, else go on."""
        fittest = best({m.member_id: m.fitness for m in population.members})
        member = self._learner.member(fittest)
        target = self._training.target_score
        reached = target is not None and member.fitness is not None and member.fitness >= target
        self._learner.event(
            f"generation {self._learner.scheduler.generation}: best member {fittest}, fitness {member.fitness:.2f}"
        )
        if self._is_last or reached:
            self._confirming = self._request(population, fittest, "confirm", self._training.confirm_episodes)
        else:
            self._checkpointer.target_streak = 0
            self._turn_over(population)

    def _confirmed(self, population: Population, member_id: int, score: Score, episodes: int) -> None:
        target = self._training.target_score
        reached = target is not None and score.fitness >= target
        self._checkpointer.target_streak = self._checkpointer.target_streak + 1 if reached else 0
        if not self._is_last and self._checkpointer.target_streak < self._training.target_patience:
            self._turn_over(population)
            return
        with self._learner.changed:
            member = self._learner.member(member_id)
            member.fitness, member.fitness_stderr = score.fitness, score.stderr
            population.lineage.evaluated(member)
            self._checkpointer.best_member = member_id
            self.result = {
                "generations": self._learner.scheduler.generation + 1,
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

    def _turn_over(self, population: Population) -> None:
        """Select and mutate; the next thing the trainer does is to make the outcome durable."""
        learner = self._learner
        generation = learner.scheduler.generation + 1
        population.algorithm.unpack()
        self._checkpointer.best_member = best({m.member_id: m.fitness for m in population.members})
        # No training order is out now, so nobody else touches the members while they are cloned and mutated.
        members, algorithm = self._factory.evolve(population, generation)
        with learner.changed:
            learner.enter_generation(members, algorithm, generation)
            if self._checkpointer.best_member not in {m.member_id for m in members}:
                self._checkpointer.best_member = None  # no elitism: whoever is best is found out at the next evaluation
            self._requests.clear()
            self._evaluated.clear()

    def _open_generation(self, population: Population) -> None:
        """Make the generation durable; only then may orders for it leave."""
        del population
        self._checkpoint()
        with self._learner.changed:
            self._learner.scheduler.paused = False
        self._learner.notify_loop()

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _checkpoint(self) -> str:
        population = self._learner.population
        if population is None:
            return ""
        population.algorithm.unpack()
        with self._learner.changed:
            state = self._checkpointer.capture()
        return self._checkpointer.write(state)

    def _checkpoint_now(self, population: Population) -> None:
        self._checkpoint()

    def _answer_checkpoint(self, population: Population) -> None:
        with self._learner.changed:
            requests, self._checkpoint_requests = self._checkpoint_requests, []
        try:
            path = self._checkpoint()
        except Exception as exc:  # whoever asked gets it; the run goes on
            for request in requests:
                request.set_exception(exc)
            return
        for request in requests:
            request.set_result(path)
