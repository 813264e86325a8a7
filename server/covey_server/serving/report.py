"""Reports about a run: the messages of PopulationService, which are also written into the run directory as files."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from covey.resources import open_files, rss_bytes
from covey.v1.population_service_pb2 import ActorInfo, MemberInfo, Status, ThreadInfo
from covey_server.evolution.fitness import rank_key
from covey_server.evolution.lineage import architecture, entry_info
from covey_server.learner import Learner
from covey_server.member import LineageEntry, Member
from covey_server.serving.standstill import Standstill

RATE_WINDOW_S = 10.0
"""Rates are averages over this many seconds."""


class Report:
    """Answers questions about a learner as protobuf messages.

    Args:
        learner: Read under its lock, briefly.
        phase_of: Returns what a member is doing, in one word.
        wire_gauges: Returns numbers that the gRPC service holds now, by name.
        standstill: Says for how long and why the run stands still.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        learner: Learner,
        phase_of: Callable[[Member], str],
        wire_gauges: Callable[[], dict[str, int]],
        standstill: Standstill,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._learner = learner
        self._phase_of = phase_of
        self._wire_gauges = wire_gauges
        self._standstill = standstill
        self._clock = clock
        self._samples: deque[tuple[float, int, dict[str, int]]] = deque()

    def sample(self) -> None:
        """Note the step counters now, for rates, and whether the run moves. Call it about once a second."""
        self._standstill.look()
        learner = self._learner
        with learner.lock:
            by_actor = {s.actor_id: s.env_steps for s in learner.sessions}
            self._samples.append((self._clock(), learner.totals.env_steps, by_actor))
        while len(self._samples) > 2 and self._samples[0][0] < self._clock() - RATE_WINDOW_S:
            self._samples.popleft()

    def _rate(self, now: int, actor_id: str | None = None) -> float:
        """Env steps per second over the last RATE_WINDOW_S seconds.

        Args:
            now: The counter's present value.
            actor_id: The actor whose counter it is; None for the whole run's.
        """
        if not self._samples:
            return 0.0
        then, total, by_actor = self._samples[0]
        before = total if actor_id is None else by_actor.get(actor_id, 0)
        return max(0, now - before) / max(1e-3, self._clock() - then)

    def status(self) -> Status:
        """The status of the whole run."""
        learner = self._learner
        with learner.lock:
            totals, population = learner.totals, learner.population
            training = learner.config.training
            status = Status(
                state=learner.state.value,
                run_name=learner.run.name,
                run_dir=str(learner.run.path),
                algorithm=learner.config.algorithm.name,
                environment=learner.config.environment.name,
                generation=learner.scheduler.generation,
                env_steps=totals.env_steps,
                eval_env_steps=totals.eval_env_steps,
                max_steps=training.max_steps,
                population_size=training.pop_size,
                env_steps_per_s=self._rate(totals.env_steps),
                updates=totals.updates,
                members_per_pass=learner.members_per_pass,
                actors=len(learner.sessions.active()),
                uptime_s=learner.clock() - learner.started,
                actor_wait_s=totals.actor_wait_s,
                learner_wait_s=totals.learner_wait_s,
                counters=dict(totals.counters),
                wire_bytes=totals.wire_bytes,
                raw_bytes=totals.raw_bytes,
                staleness_updates=totals.staleness_updates / max(1, totals.staleness_samples),
                events=list(learner.events),
                gauges=self._gauges(),
                standstill_s=self._standstill.seconds,
            )
            if status.standstill_s:
                status.waits.extend(self._standstill.waits())
            status.threads.extend(ThreadInfo(name=w.name, kind=w.kind, alive=w.alive()) for w in learner.threads)
            if population is not None:
                status.replay_env_steps = len(population.experience)
                best = self.best()
                if best is not None:
                    status.best_member, status.best_fitness = best.member_id, best.fitness or 0.0
            return status

    def best(self) -> LineageEntry | None:
        """The living member that was best when it was evaluated last; None before the first evaluation."""
        with self._learner.lock:
            population = self._learner.population
            rated = [] if population is None else [m for m in population.lineage.living if m.fitness is not None]
        return max(rated, key=lambda m: rank_key(m.fitness), default=None)

    def _gauges(self) -> dict[str, int]:
        """Sizes, by name, of everything that would grow without end if its bound failed."""
        learner = self._learner
        at_work = learner.sessions.active()
        members = learner.population.members if learner.population is not None else []
        return {
            "sessions": len(learner.sessions),
            "orders_out": len(learner.scheduler.outstanding()),
            "updates_owed": max((learner.updates_due(m) for m in members), default=0),
            "actor_outbox_fragments": sum(s.outbox_fragments for s in at_work),
            "actor_outbox_bytes": sum(s.outbox_bytes for s in at_work),
            "rss_bytes": rss_bytes(),
            "open_files": open_files(),
            **self._wire_gauges(),
        }

    def members(self) -> list[MemberInfo]:
        """All living members, in the population's order."""
        with self._learner.lock:
            population = self._learner.population
            if population is None:
                return []
            return [self._member(m) for m in population.members]

    def _member(self, member: Member) -> MemberInfo:
        """A living member as a protobuf message."""
        return MemberInfo(
            member_id=member.member_id,
            parent_id=member.parent_id,
            generation=member.generation,
            env_steps=member.env_steps,
            updates=member.updates,
            fitness=member.fitness,
            fitness_stderr=member.fitness_stderr,
            architecture_json=json.dumps(architecture(member)),
            hyperparameters_json=json.dumps(member.hyperparameters.numbers()),
            mutation=member.mutation,
            change=member.change,
            state=self._phase_of(member),
            updates_owed=self._learner.updates_due(member),
        )

    def lineage(self) -> Iterator[MemberInfo]:
        """Yield every member that ever lived, oldest first; living ones as they are when the first is yielded."""
        with self._learner.lock:
            population = self._learner.population
            if population is None:
                return
            entries = population.lineage.entries
            now = {info.member_id: info for info in self.living()}
        for entry in entries:
            yield now.get(entry.member_id) or entry_info(entry)

    def living(self) -> list[MemberInfo]:
        """The living members as the lineage has them, in the population's order: with how each was born."""
        with self._learner.lock:
            population = self._learner.population
            if population is None:
                return []
            return [self._living(population.lineage[m.member_id], m) for m in population.members]

    def member(self, member_id: int) -> MemberInfo | None:
        """One member by its id, living or dead; None if no member ever had this id."""
        with self._learner.lock:
            population = self._learner.population
            if population is None or member_id not in population.lineage:
                return None
            entry = population.lineage[member_id]
            living = next((m for m in population.members if m.member_id == member_id), None)
            return entry_info(entry) if living is None else self._living(entry, living)

    def _living(self, entry: LineageEntry, member: Member) -> MemberInfo:
        """A living member as a protobuf message, with what only the lineage has: how it was born, how it did first."""
        info = self._member(replace(member, mutation=entry.mutation, change=entry.change))
        info.MergeFrom(MemberInfo(first_fitness=entry.first_fitness, parent_fitness=entry.parent_fitness))
        return info

    def actors(self) -> list[ActorInfo]:
        """Every actor that the learner remembers."""
        learner = self._learner
        with learner.lock:
            return [
                ActorInfo(
                    actor_id=s.actor_id,
                    state=s.state if s.state != "active" or learner.scheduler.orders_out(s.key) else "idle",
                    slots=s.train_slots,
                    env_steps=s.env_steps,
                    env_steps_per_s=self._rate(s.env_steps, s.actor_id) if s.state == "active" else 0.0,
                    hostname=s.hostname,
                    silent_s=learner.clock() - s.last_seen,
                    orders_out=len(learner.scheduler.orders_out(s.key)),
                    received_seq=s.received_seq,
                    durable_seq=s.durable_seq,
                    wire_bytes=s.wire_bytes,
                    rss_bytes=s.rss_bytes,
                    refused=s.refused,
                    environment_faults=s.environment_faults,
                    wait_s=s.wait_s,
                    incarnation=f"{s.incarnation:016x}",
                    eval_env_steps=s.eval_env_steps,
                    observations_outside=s.observations_outside,
                    slots_asked=learner.config.train_slots,
                )
                for s in learner.sessions
            ]
