"""The watch over a run that stands still: it says which member waits for what.

A run moves while env steps, of training or evaluation, or updates come. Where none has come for two heartbeat
intervals, the status says for how long and why. Where none has come for longer than an actor's outstanding order or
the trainer's present piece of work may take, that is a fault of somebody, and an event tells it.
"""

from __future__ import annotations

from collections import defaultdict

from covey_server.attendance import Attendance
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.coordination.run_state import RunState
from covey_server.learner import Learner
from covey_server.member import Member
from covey_server.training.trainer import Trainer

HEARTBEATS = 2
"""A run that has not moved for so many heartbeat intervals stands still."""

MOST_NAMED = 3
"""Actors that a sentence names one by one; of more it says how many."""


class Standstill:
    """Notices when a run stands still; `look` is to be called about once a second.

    Args:
        learner: The run.
        trainer: Says what it is at.
        attendance: Knows how long the actors' orders may take.
    """

    def __init__(self, learner: Learner, trainer: Trainer, attendance: Attendance) -> None:
        self._learner = learner
        self._trainer = trainer
        self._attendance = attendance
        self._interval_s = learner.config.learner.heartbeat_interval_s
        self._moved_at = self._looked_at = learner.clock()
        self._counts: tuple[int, ...] = ()
        self._told_s = 0.0  # how long it had stood when that was told last; 0 while it moves

    @property
    def lock(self) -> StateLock:
        """The learner's lock; methods marked `under_lock` assert that it is held."""
        return self._learner.lock

    @property
    def seconds(self) -> float:
        """Seconds for which the run has stood still; 0 while it moves, or is not to move."""
        still_s = self._learner.clock() - self._moved_at
        stands = still_s > HEARTBEATS * self._interval_s and self._learner.state is RunState.TRAINING
        return still_s if stands else 0.0

    def look(self) -> None:
        """Look whether the run has moved since the last call; tell if it has not for longer than anything explains."""
        learner = self._learner
        with learner.lock:
            totals = learner.totals
            counts = (totals.env_steps, totals.updates, totals.eval_env_steps, learner.scheduler.generation)
            # A run that is paused, ends, or waits for room on the disk says so elsewhere.
            excused = learner.state is not RunState.TRAINING or bool(learner.room.missing)
        now = learner.clock()
        # Also where this process itself, or its machine, was stopped for a while: then nothing could come.
        if counts != self._counts or excused or now - self._looked_at > self._interval_s:
            if self._told_s and counts != self._counts:
                learner.event(f"the run moves again after {now - self._moved_at:.0f} s")
            self._moved_at, self._told_s = now, 0.0
        self._counts, self._looked_at = counts, now
        if self.seconds <= max(self._explained_s(), 2 * self._told_s):  # told again when twice as long has passed
            return
        if not self._told_s:
            learner.count("standstills")
        self._told_s = self.seconds
        learner.event(f"the run has stood still for {self.seconds:.0f} s: {'; '.join(self.waits())}")

    def _explained_s(self) -> float:
        """Seconds without any progress that an outstanding order or the trainer's present work explain."""
        piece = self._trainer.piece
        return max(self._attendance.longest_order_s(), piece.patience_s if piece else 0.0)

    def waits(self) -> list[str]:
        """For all members, what they wait for: members that wait for the same are named together."""
        learner = self._learner
        with learner.lock:
            population = learner.population
            members: defaultdict[str, list[int]] = defaultdict(list)
            asked: defaultdict[int, set[str]] = defaultdict(set)  # actors that have orders of a member's env steps
            for key, order in learner.scheduler.outstanding():
                for work in order.slots:
                    asked[work.member_id].add(key[0])
            for member in population.members if population is not None else ():
                members[self._wait_of(member, asked[member.member_id])].append(member.member_id)
            at_work = [s.actor_id for s in learner.sessions.active()]
        said = [
            f"{_listed('member', ids)} {'wait' if len(ids) > 1 else 'waits'} for {what}"
            for what, ids in members.items()
        ]
        piece = self._trainer.piece
        if piece is not None:
            said.append(f"the trainer has been at {piece.what} for {piece.taken_s:.0f} s")
        if not at_work:
            said.append("no actor is at work")
        return said

    @under_lock
    def _wait_of(self, member: Member, asked: set[str]) -> str:
        """What a member waits for, such as "12 evaluation episodes of actor a"; `asked` have orders of its steps."""
        scheduler, ledger = self._learner.scheduler, self._learner.ledger(member.member_id)
        if not ledger.durable:
            return "the beginning of its generation to be written to disk"
        due = self._learner.updates_due(member)
        if due:
            return f"{due:,} updates"
        if not ledger.collected:
            if ledger.ordered:
                return f"{ledger.ordered:,} env steps of {_listed('actor', sorted(asked))}"
            if ledger.held:
                return "other members to be half through their rollouts"
            return f"{ledger.remaining:,} env steps that no actor can be asked for"
        episodes, actors = scheduler.evaluations.open_of(member.member_id)
        if not episodes:
            return "the other members"
        return f"{episodes:,} evaluation episodes" + (
            f" of {_listed('actor', actors)}" if actors else " that no actor plays"
        )


def _listed(noun: str, names: list[str] | list[int]) -> str:
    """Names with their noun, such as "actors a and b"; of many only the number."""
    if len(names) > MOST_NAMED:
        return f"{len(names)} {noun}s"
    *first, last = map(str, names)
    return f"{noun}s {', '.join(first)} and {last}" if first else f"{noun} {last}"
