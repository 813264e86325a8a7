"""Comparing both sides by content: what actors were promised, what the journal has, what a restart makes of it."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tests.chaos.history import History
from tests.chaos.notes import read_notes

from covey.config import load_config
from covey.run.directory import RunDirectory
from covey.v1.fragment_pb2 import ReceivedFragment
from covey_server.app import LearnerProcess
from covey_server.experience.replay import Replay
from covey_server.storage.journal import Journal, Kind


@dataclass
class Differences:
    """What should have been equal; all empty where the promise was kept. Each is one sentence."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    promised: int = 0  # fragments that an actor was told are durable
    taken: int = 0  # fragments in the history, less those refused
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def found(self) -> list[str]:
        """All of them."""
        return [*self.lost, *self.doubled, *self.steps, *self.content]


def compare_promises(history: History, notes: Path, found: Differences) -> None:
    """Every fragment that an actor was told is durable is in the history once, as it was made; nothing is twice."""
    made = {n.key: n for n in read_notes(notes)}
    taken: dict[tuple[tuple[str, int], int], str] = {}
    answered: set[int] = set()
    for entry in history.taken:
        name = f"fragment {entry.seq} of {entry.key[0]} {entry.key[1]:x}"
        if (entry.key, entry.seq) in taken:
            found.doubled.append(f"{name}: is in the journal twice")
        taken[entry.key, entry.seq] = entry.refused or entry.sha
        if entry.refused:
            found.refused[entry.refused] += 1
            continue
        found.taken += 1
        if entry.order_id in answered:
            found.doubled.append(f"{name}: order {entry.order_id} was answered before")
        answered.add(entry.order_id)
        if entry.key not in made or made[entry.key].made.get(entry.seq) != entry.sha:
            found.content.append(f"{name}: is not what the actor made")
    for key, actor in made.items():
        found.promised += actor.durable
        for seq in range(1, actor.durable + 1):
            if (key, seq) not in taken:
                found.lost.append(f"fragment {seq} of {key[0]} {key[1]:x}: was durable up to {actor.durable}")


def compare_recovery(history: History, run: Path, scratch: Path, found: Differences) -> None:
    """What a restart finds, on a copy: all members have the steps of the history, replay its newest rows."""
    copy = scratch / "copy"
    shutil.copytree(run, copy)
    try:
        _compare_recovery(history, RunDirectory.open(copy), found)
    finally:
        shutil.rmtree(copy)


def _compare_recovery(history: History, run: RunDirectory, found: Differences) -> None:
    config = load_config(run.config, ["logging.csv=false", "logging.tensorboard=false"])
    journal = Journal.open(run.journal, config.checkpoint.journal_segment_bytes)
    records = [(at, ReceivedFragment.FromString(p)) for at, kind, p in journal.read() if kind == Kind.FRAGMENT]
    journal.close()
    kept = [(r.actor_id, r.incarnation, r.fragment.seq) for _, r in records]
    known = [(*t.key, t.seq) for t in history.taken]
    if kept != known[len(known) - len(kept) :]:
        found.content.append(f"journal: its {len(kept)} fragments are not the last of the {len(known)} that were seen")
    process = LearnerProcess(config, run, resume=True)
    try:
        learner, population = process.learner, process.learner.population
        assert population is not None
        quota, generation = config.training.evo_steps, learner.scheduler.generation
        counted: Counter[tuple[int, int]] = Counter()  # by member and generation
        issued = history.issued
        for entry in history.taken:
            for member_id, steps in entry.steps.items() if not entry.refused else ():
                counted[member_id, issued[entry.order_id].generation] += steps
        per_generation = Counter(g for _, g in counted)
        for (member_id, of), steps in counted.items():
            if of < generation and (steps != quota or per_generation[of] != config.training.pop_size):
                found.steps.append(f"member {member_id}: {steps} env steps in generation {of}, expected {quota}")
        for member in population.members:
            ledger = learner.scheduler.ledger(member.member_id)
            accepted, in_journal = ledger.accepted if ledger else None, counted[member.member_id, generation]
            if not accepted == in_journal == member.env_steps - generation * quota <= quota:
                found.steps.append(
                    f"member {member.member_id}: {accepted} env steps accepted in generation {generation} and "
                    f"{member.env_steps} in all, the journal has {in_journal}"
                )
        if learner.totals.env_steps != sum(counted.values()):
            found.steps.append(f"population: {learner.totals.env_steps} env steps, the journal has {counted.total()}")
        superseded = {(t.key, t.seq) for t in history.taken if t.superseded}
        expected = Replay(population.spaces, config.replay_buffer.max_size, config.replay_buffer.max_bytes)
        for at, received in records:
            fragment = received.fragment
            key = (received.actor_id, received.incarnation), fragment.seq
            if fragment.streams and not received.refused and key not in superseded:
                rows = sum(s.rows + s.lead_in_rows for s in fragment.streams)
                columns = population.schema.decode(fragment.blob, rows, fragment.raw_bytes)
                expected.insert(columns, fragment.streams, at)
        assert isinstance(population.experience, Replay)
        held = population.experience.step_rows()
        if not all(torch.equal(rows, held[dtype]) for dtype, rows in expected.step_rows().items()):
            found.content.append(f"replay: {len(population.experience)} env steps, the journal's are {len(expected)}")
    finally:
        process.stop()
