"""Checkpoints of a whole run: each part's own state as JSON, the members' networks, and a position in the journal.

Experience is not in a checkpoint: the journal has it.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any

from covey.run.reports import members_json
from covey.wire.spaces_json import spaces_to_json
from covey_server.coordination.lock import StateLock, under_lock
from covey_server.evolution.lineage import entry_info
from covey_server.learner import Learner
from covey_server.member import LineageEntry, Member
from covey_server.storage.checkpoint import drop_checkpoints, save_checkpoint
from covey_server.storage.elites import EliteFolders, Elites
from covey_server.storage.journal import Position
from covey_server.storage.lineage_file import LineageFile

RUN_VERSION = LINEAGE_VERSION = 1
"""Version of the parts "run" and "lineage" of a checkpoint's state; other parts have versions of their own."""


@dataclass(frozen=True, slots=True)
class Captured:
    """A consistent picture of a run, taken under the lock, so that it can be written without it.

    Attributes:
        state: The state as JSON.
        members: Copies of the members, whose networks are not copied: training replaces arrays instead of changing
            them.
        died: Lineage entries of members that died since the last checkpoint.
        elites: Elites of generations that are not on the disk yet.
        needed_from: The oldest journal record from which experience is to be refilled.
    """

    state: dict[str, Any]
    members: list[Member]
    died: list[LineageEntry]
    elites: Elites
    needed_from: Position


class Checkpointer:
    """Captures a learner's run and writes it as checkpoints.

    Args:
        learner: The learner whose run is checkpointed.

    Attributes:
        lineage_file: The file of dead members, to which each checkpoint appends.
        elites: The elites of generations, which are written before the checkpoint that knows them.
        best_member: Id of the best member of the last comparison; None before the first one.
        target_streak: Number of comparisons in a row whose confirmed best member reached `training.target_score`.
        kept_fitness: Confirmed fitness of the best policy that the run has had, or what it would be against itself as
            the elite before (`Score.as_elite`); None before there is one.
        sides: Of a zero-sum game whose members are evaluated against opponents, the agents of each side; else empty.
        sides_since: The first generation that is evaluated by sides.
        looked_at: The newest generation before whose evaluation returns were looked at, to see whether they cancel.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._written_at = learner.clock()
        # For each kept checkpoint, the journal position from which it needs records.
        self._needed: deque[Position] = deque(maxlen=learner.config.checkpoint.keep)
        self.lineage_file = LineageFile(learner.run.lineage)
        self.elites = EliteFolders(learner.run, learner.config.checkpoint.keep_elites, learner.event)
        self.best_member: int | None = None
        self.target_streak = 0
        self.kept_fitness: float | None = None
        self.sides: list[list[str]] = []
        self.sides_since = 0
        self.looked_at = -1

    @property
    def lock(self) -> StateLock:
        """The learner's lock, which `under_lock` asserts."""
        return self._learner.lock

    @property
    def is_due(self) -> bool:
        """Whether the newest checkpoint is older than `checkpoint.every_s`; never in a deterministic run.

        A deterministic run has checkpoints at the beginnings of generations only.
        """
        if self._learner.config.training.deterministic:
            return False
        return self._learner.clock() - self._written_at > self._learner.config.checkpoint.every_s

    @under_lock
    def capture(self) -> Captured:
        """Capture the run as it stands; the algorithm must have unpacked the members' networks before."""
        learner, population = self._learner, self._learner.population
        if population is None:
            raise RuntimeError("a checkpoint needs a population")
        here = learner.journal.position
        needed_from = population.experience.needed_from or here
        state = {
            "run": {
                "version": RUN_VERSION,
                "config": learner.config.model_dump(mode="json"),
                "spaces": spaces_to_json(population.spaces),
                "epoch": learner.epoch,
                "generation": learner.scheduler.generation,
                "journal": list(here),
                "needed_from": list(needed_from),
                "superseded": learner.superseded,
                "best_member": self.best_member,
                "target_streak": self.target_streak,
                "kept_fitness": self.kept_fitness,
                "sides": self.sides,
                "sides_since": self.sides_since,
                "looked_at": self.looked_at,
                "returns": [[actor, *returns] for actor, returns in population.returns],
                "elites": self.elites.to_state(),
            },
            "scheduler": learner.scheduler.to_state(),
            "experience": population.experience.to_state(),
            "sessions": learner.sessions.to_state(),
            "totals": learner.totals.to_state(learner.training_s),
            "lineage": {
                "version": LINEAGE_VERSION,
                "dead": len(population.lineage.dead),
                "living": members_json(entry_info(e) for e in population.lineage.living)["members"],
            },
        }
        members = [
            dataclasses.replace(
                m,
                # A shallow copy suffices: unpacking gives a network new arrays and never writes into those it has.
                networks={key: dataclasses.replace(network) for key, network in m.networks.items()},
            )
            for m in population.members
        ]
        died = list(population.lineage.dead[self.lineage_file.lines :])
        return Captured(state, members, died, self.elites.unwritten(), needed_from)

    def write(self, captured: Captured) -> str:
        """Make a captured run durable; returns the checkpoint's path. Any thread may call it, but one at a time.

        Raises:
            StorageError: the disk is full or not writable; the checkpoints before stay.
        """
        learner = self._learner
        self._written_at = learner.clock()
        learner.journal.sync()
        learner.journal.due.set()  # wakes the thread that tells actors what has become durable
        # Files before the checkpoint that refers to them: after a crash in between, the checkpoint before still holds.
        self.lineage_file.append(captured.died)
        self.elites.write(captured.elites)
        path = save_checkpoint(learner.run.checkpoints, captured.state, captured.members)
        self._needed.append(captured.needed_from)
        return str(path)

    def drop_old(self) -> None:
        """Delete checkpoints and elites beyond those that are to be kept, and journal records that none of them needs.

        Raises:
            StorageError: the disk is not writable.
        """
        self.elites.thin_out()
        drop_checkpoints(self._learner.run.checkpoints, self._learner.config.checkpoint.keep)
        if len(self._needed) == self._needed.maxlen:
            self._learner.journal.drop_before(min(self._needed))
