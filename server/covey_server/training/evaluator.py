"""Evaluates population members: requests episodes, records fitness, has members compared, confirms the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from covey.run.trained import TrainedMember
from covey_server.coordination.run_state import RunState
from covey_server.curves import population as curves
from covey_server.durability.checkpointer import Checkpointer
from covey_server.evolution.fitness import Played, Score, best, score_of
from covey_server.evolution.generation import sound
from covey_server.evolution.halving import Halving
from covey_server.evolution.line_ups import LineUp
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.orders.evaluations import Request
from covey_server.population import Population
from covey_server.seeds import episode_seeds
from covey_server.training.cancelling import CancellingReturns
from covey_server.training.kept_best import KeptBest
from covey_server.training.mode import Comparison, EvolutionMode
from covey_server.training.opponents import Opponents


class Evaluator:
    """Takes members from the last update of a generation, through evaluation, to the next generation.

    Called by the trainer thread alone.

    Args:
        learner: The learner's shared state.
        checkpointer: Keeps the best member's id and the streak of generations that reached the target.
        mode: Says which evaluated members are compared, and makes their successors.
        unpack: Brings the members' own weights up to date with the packs.

    Attributes:
        result: Of a complete run, its best member with fitness, and the number of generations; None before.
    """

    def __init__(
        self,
        learner: Learner,
        checkpointer: Checkpointer,
        mode: EvolutionMode,
        unpack: Callable[[Population], None],
    ) -> None:
        self._learner = learner
        self._checkpointer = checkpointer
        self._mode = mode
        self._unpack = unpack
        self._config = learner.config
        self._training = learner.config.training
        self._requests: dict[int, Request] = {}  # by member id: evaluations requested since it was last compared
        self._evaluated: set[int] = set()  # ids of the members among these that have their fitness
        self._scores: dict[int, Score] = {}  # by member id: of the newest evaluations of those that live
        self._halving: Halving[Played] | None = None  # where all members are compared with each other
        self._confirming: dict[int, Comparison] = {}  # by the id of its best member, which plays further episodes
        self._kept = KeptBest(learner, checkpointer)
        self._cancelling = CancellingReturns(learner)
        self._opponents = Opponents(learner, checkpointer)
        # Who plays the episodes that were requested, by member id, purpose and seed.
        self._line_ups: dict[tuple[int, str, int], LineUp] = {}
        self.result: dict[str, object] | None = None

    def is_requested(self, member: Member) -> bool:
        """Whether the member's evaluation was requested since it was last compared with other members."""
        return member.member_id in self._requests

    def phase(self, member: Member) -> str:
        """Say what a member is doing: collecting, settling (its last updates are being made), evaluating or ready."""
        if not self.is_requested(member):
            with self._learner.lock:
                ledger = self._learner.scheduler.ledger(member.member_id)
            return "settling" if ledger is not None and ledger.collected else "collecting"
        return "ready" if member.member_id in self._evaluated else "evaluating"

    def request(self, population: Population, member: Member) -> None:
        """Request the evaluation of a member's fitness, or the first part of it where all are compared together."""
        episodes, trained = self._config.eval_episodes, self._training.evo_steps
        with self._learner.lock:
            # The run's result is chosen by these evaluations: more episodes make a lucky choice less likely.
            if self._learner.in_last_generation(member.member_id):
                episodes, trained = max(episodes, self._training.confirm_episodes), self._training.max_steps
        episodes = self._evenly(population, member.member_id, episodes)
        if self._mode.compares_all and len(population.members) > 1:
            if self._halving is None:
                line_ups = self._count_line_ups(population, member.member_id)
                members = [m.member_id for m in population.members]
                score = partial(self._score, population)
                self._halving = Halving(members, episodes, trained * len(members), score, line_ups)
            episodes = self._halving.played
        self._requests[member.member_id] = self._play(population, member.member_id, "fitness", range(episodes))

    def enter(self, population: Population, request: Request) -> None:
        """Record a finished evaluation, then compare members if enough are evaluated, or confirm the best one."""
        line_ups = {s: self._line_ups.pop((request.member_id, request.purpose, s)) for s in request.players}
        episodes = {seed: Played(request.results[seed], line_ups[seed]) for seed in sorted(request.results)}
        with self._learner.lock:
            self._learner.totals.counters["evaluation_episodes"] += len(episodes)
        if self._halving is not None and request.purpose == "fitness":
            self._go_on(population, request, episodes, self._halving)
            return
        score = self._score(population, request.member_id, list(episodes.values()))
        self._look(population, request, score)
        if request.purpose != "fitness":
            self._kept.enter(request, population, score, len(episodes))
        if request.purpose == "best":
            if self._training.deterministic:
                self._succeed(population, self._confirming.pop(request.member_id))
            return
        if request.purpose == "confirm":
            self._confirm(population, request.member_id, score, len(episodes))
            return
        self._enter_fitness(population, request.member_id, score)

    def _go_on(
        self, population: Population, request: Request, episodes: dict[int, Played], halving: Halving[Played]
    ) -> None:
        """Record a part of a member's evaluation; after the last of a stage, have the next played or rate all."""
        if not halving.enter(request.member_id, episodes, request.env_steps):
            return
        part = halving.advance()
        if part is not None:
            for member_id in halving.playing:
                self._requests[member_id] = self._play(population, member_id, "fitness", part)
            return
        self._halving = None
        for member_id, score in halving.scores().items():
            self._look(population, self._requests[member_id], score)
            self._enter_fitness(population, member_id, score)

    def _enter_fitness(self, population: Population, member_id: int, score: Score) -> None:
        """Record a member's fitness, then compare members if enough of them have one."""
        member = self._rate(population, member_id, score)
        self._learner.curves.give(curves.evaluation(population.members.index(member), score), member_id)
        self._scores[member_id] = score
        self._evaluated.add(member_id)
        comparison = self._mode.compare(population, member, self._evaluated)
        if comparison is not None:
            self._compare(population, comparison)

    def _look(self, population: Population, request: Request, score: Score) -> None:
        """Look whether the returns behind a score cancel; one that has diverged has none."""
        if request.member_id in population.policies.diverged:
            return
        played = [(request.actors[seed][0], returns) for seed, returns in request.results.items()]
        if not score.cancels or not self._opponents.saw(population, played):
            self._cancelling.look(population, request, score)

    def _score(self, population: Population, member_id: int, episodes: Sequence[Played]) -> Score:
        """Compute a member's score; one that has diverged has none, as it was played by its last finite weights."""
        if member_id in population.policies.diverged:
            episodes = []
        return score_of(episodes, population.spaces.agent_ids, self._config.fitness)

    def _evenly(self, population: Population, member_id: int, episodes: int) -> int:
        """Round a number of episodes up, so that each side is played as often against each opponent."""
        line_ups = self._count_line_ups(population, member_id)
        return -(-episodes // line_ups) * line_ups

    def _count_line_ups(self, population: Population, member_id: int) -> int:
        """In how many ways a member meets its opponents, one after the other."""
        self._opponents.prepare(population, member_id)
        return self._opponents.count(population, member_id)

    def _play(self, population: Population, member_id: int, purpose: str, part: range) -> Request:
        """Request evaluation episodes of a member against the configured opponents: this part of all its seeds."""
        # Any living member may be an opponent, and all play with their newest weights.
        living = [m.member_id for m in population.members]
        population.policies.publish(living if self._config.fitness.opponents else [member_id])
        self._opponents.prepare(population, member_id)
        with self._learner.changed:
            line_ups = self._opponents.line_ups(population, member_id)
            seeds = zip(part, self._seeds(purpose, member_id, part), strict=True)
            seats = {seed: line_ups[k % len(line_ups)] for k, seed in seeds}
            self._line_ups |= {(member_id, purpose, seed): line_up for seed, line_up in seats.items()}
            request = self._learner.scheduler.evaluations.request(
                member_id,
                purpose,
                {s: line_up.policies for s, line_up in seats.items()},
                self._config.eval_episode_steps,
            )
        self._learner.bell.ring()
        return request

    def _seeds(self, purpose: str, member_id: int, part: range) -> list[int]:
        """Return a part of the seeds of evaluation episodes, equal for all members, different in each generation.

        Call it under the lock.
        """
        generation = self._learner.ledger(member_id).generation
        return episode_seeds(self._training.seed, purpose, generation, part.stop)[part.start :]

    def _rate(self, population: Population, member_id: int, score: Score) -> Member:
        """Record a member's fitness and its standard error; returns the member."""
        with self._learner.changed:
            member = self._learner.ledger(member_id).member
            member.fitness, member.fitness_stderr = score.fitness, score.stderr
            population.lineage.evaluated(member)
        return member

    def _compare(self, population: Population, comparison: Comparison) -> None:
        """Have the best of these members confirmed if it may end the run, else let the evolution mode act on them."""
        if all(m.member_id in population.policies.diverged for m in population.members):
            self._unpack(population)
            sound(population.members)  # raises, as all of them have diverged
        fitnesses = {m.member_id: m.fitness for m in comparison.members}
        fittest = best(fitnesses)
        if self._mode.compares_all:
            with self._learner.changed:
                generation = self._learner.ledger(fittest).generation
                population.lineage.compared(generation)
                born = [e for e in population.lineage.living if e.generation == generation]
                self._learner.curves.give(curves.gains(born))
        self._show(population)
        self._keep_elite(population, fittest)
        if comparison.is_last or self._reaches_target(fitnesses[fittest]):
            self._confirming[fittest] = comparison
            episodes = self._evenly(population, fittest, self._training.confirm_episodes)
            request = self._play(population, fittest, "confirm", range(episodes))
            self._hold(request, population)
            return
        # A generation without any member at the target ends the streak.
        if not any(self._reaches_target(m.fitness) for m in population.members):
            self._checkpointer.target_streak = 0
        if episodes := self._kept.episodes(fitnesses[fittest]):
            episodes = self._evenly(population, fittest, episodes)
            self._hold(self._play(population, fittest, "best", range(episodes)), population)
            if self._training.deterministic:  # when it has been played would decide the numbers of training orders
                self._confirming[fittest] = comparison
                return
        self._succeed(population, comparison)

    def _show(self, population: Population) -> None:
        """Give the curves the best of all evaluated members, and how they are spread."""
        rated = {m.member_id: m.fitness for m in population.members if m.fitness is not None}
        self._scores = {member_id: score for member_id, score in self._scores.items() if member_id in rated}
        fittest = best(rated)
        spread = curves.comparison(rated.values(), rated[fittest])
        known = self._scores.get(fittest)
        self._learner.curves.give(spread if known is None else curves.score_of("fitness/best", known) | spread, fittest)

    def _hold(self, request: Request, population: Population) -> None:
        """Hold the policies that play a request, to be kept if they turn out to be the best."""
        with self._learner.lock:
            generation = self._learner.ledger(request.member_id).generation
        self._kept.hold(request, population, generation)

    def _keep_elite(self, population: Population, member_id: int) -> None:
        """Keep the fittest of compared members as its generation's elite, with the policies that were evaluated."""
        learner = self._learner
        with learner.lock:
            ledger = learner.ledger(member_id)
            generation, fitness, stderr = ledger.generation, ledger.member.fitness, ledger.member.fitness_stderr
            env_steps = ledger.member.env_steps
        if fitness is None or member_id in population.policies.diverged:
            return
        files = population.policies.files(member_id)
        member = TrainedMember(
            learner.run, learner.run.elite(generation), member_id, generation, self._config, population.spaces, files
        )
        score = {
            "member_id": member_id,
            "generation": generation,
            "env_steps": env_steps,
            "fitness": fitness,
            "fitness_stderr": stderr,
            "sides": self._checkpointer.sides,
        }
        self._checkpointer.elites.enter(member, score)

    def _reaches_target(self, fitness: float | None) -> bool:
        """Whether this fitness is at least the configured target score, if there is one."""
        target = self._training.target_score
        return target is not None and fitness is not None and fitness >= target

    def _confirm(self, population: Population, member_id: int, score: Score, episodes: int) -> None:
        """Act on the best member's additional episodes: complete the run, or let evolution go on."""
        comparison = self._confirming.pop(member_id)
        reached = self._reaches_target(score.fitness)
        self._checkpointer.target_streak = self._checkpointer.target_streak + 1 if reached else 0
        if not comparison.is_last and self._checkpointer.target_streak < self._training.target_patience:
            self._succeed(population, comparison)
            return
        # Report the fitness of fresh episodes: the one that won the comparison is the highest of many, and so too high.
        self._rate(population, member_id, score)
        with self._learner.changed:
            self._checkpointer.best_member = member_id
            self._learner.curves.give(curves.score_of("fitness/confirmed", score), member_id)
            self.result = {
                "generations": self._learner.ledger(member_id).generation + 1,
                "best_member": member_id,
                "best_fitness": score.fitness,
                "best_fitness_stderr": score.stderr,
                "best_fitness_episodes": episodes,
                "best_confirmed": True,
                "best_per_agent": score.per_agent,
                "best_against": score.against,
                "target_reached": reached,
            }
            self._learner.event(
                f"complete: best member {member_id}, fitness {score.fitness:.2f} ± {score.stderr:.2f} "
                f"over {episodes} fresh episodes{score.versus}"
            )
            self._learner.become(RunState.COMPLETE)
        self._learner.bell.ring()

    def _succeed(self, population: Population, comparison: Comparison) -> None:
        """Let evolution decide which compared members go on or are replaced; after that a checkpoint is written."""
        self._unpack(population)
        self._mode.succeed(population, comparison)
        with self._learner.changed:
            rated = {m.member_id: m.fitness for m in population.members if m.fitness is not None}
            self._checkpointer.best_member = best(rated) if rated else None
            for member in comparison.members:
                del self._requests[member.member_id]
                self._evaluated.remove(member.member_id)
