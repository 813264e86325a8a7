"""Checkpoints of a whole run: the learner's own state and a position in the journal, which keeps replay."""

from __future__ import annotations

import base64
import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any

from covey.run.reports import members_json
from covey.v1.fragment_pb2 import IssuedOrder
from covey.wire.spaces_json import spaces_to_json
from covey_server.evolution.lineage import entry_info
from covey_server.experience.rollouts import Rollouts
from covey_server.learner import Learner
from covey_server.member import LineageEntry, Member
from covey_server.storage.checkpoint import drop_checkpoints, save_checkpoint
from covey_server.storage.journal import Position
from covey_server.storage.lineage_file import LineageFile


@dataclass(frozen=True, slots=True)
class Captured:
    """A consistent picture of a run, taken under the lock, to be written without it."""

    state: dict[str, Any]
    members: list[Member]
    died: list[LineageEntry]  # since the checkpoint before
    replay_from: Position


class Checkpointer:
    """Takes and writes checkpoints of one learner."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._written_at = learner.clock()
        # Journal positions from which each kept checkpoint needs records.
        self._needed: deque[Position] = deque(maxlen=learner.config.checkpoint.keep)
        self.lineage_file = LineageFile(learner.run.lineage)
        self.best_member: int | None = None
        self.target_streak = 0

    @property
    def is_due(self) -> bool:
        """Whether the newest checkpoint is older than configured; never where only generations' beginnings count."""
        if self._learner.config.training.deterministic:
            return False
        return self._learner.clock() - self._written_at > self._learner.config.checkpoint.every_s

    def capture(self) -> Captured:
        """The run as it stands; under the lock, with the algorithm unpacked."""
        learner, population = self._learner, self._learner.population
        if population is None:
            raise RuntimeError("a checkpoint needs a population")
        scheduler = learner.scheduler
        here = learner.journal.position
        experience = population.experience
        replay_row = 0
        rounds: dict[str, list[list[int]]] = {}  # on-policy: where the rows of each member's round are
        if isinstance(experience, Rollouts):
            rounds = {
                str(m.member_id): [list(p) for p in experience.positions(m.member_id) if isinstance(p, Position)]
                for m in population.members
            }
            replay_from = min((Position(*p) for kept in rounds.values() for p in kept), default=here)
        else:
            oldest = experience.oldest_tag
            replay_row = experience.oldest_row
            replay_from = oldest if isinstance(oldest, Position) else here
        state = {
            "config": learner.config.model_dump(mode="json"),
            "spaces": spaces_to_json(population.spaces),
            "epoch": learner.epoch,
            "generation": scheduler.generation,
            "orders_in_generation": scheduler.orders_in_generation,
            "steps_ordered": scheduler.steps_ordered,
            "ledger": {
                str(w.member_id): [w.quota, w.accepted, w.limit, w.round_start, int(w.held), w.generation]
                for w in scheduler.living
            },
            "rounds": rounds,
            "outstanding": [
                base64.b64encode(
                    IssuedOrder(actor_id=key[0], incarnation=key[1], order=order).SerializeToString()
                ).decode()
                for key, order in scheduler.outstanding()
            ],
            "sessions": learner.sessions.to_json(),
            "totals": vars(learner.totals)
            | {"counters": dict(learner.totals.counters), "training_s": learner.training_s},
            "journal": list(here),
            "replay_from": list(replay_from),
            "replay_row": replay_row,
            "superseded": learner.superseded,
            "best_member": self.best_member,
            "target_streak": self.target_streak,
            "lineage": {
                "dead": len(population.lineage.dead),
                "living": members_json(entry_info(e) for e in population.lineage.living)["members"],
            },
        }
        members = [
            dataclasses.replace(
                m,
                hyperparameters=dict(m.hyperparameters),
                # Unpacking gives a network other arrays; those that it has now stay as they are.
                networks={key: dataclasses.replace(network) for key, network in m.networks.items()},
            )
            for m in population.members
        ]
        return Captured(state, members, list(population.lineage.dead[self.lineage_file.lines :]), replay_from)

    def write(self, captured: Captured) -> str:
        """Make a captured run durable; returns the checkpoint's path. Any thread may, one at a time.

        Raises:
            StorageError: the disk is full or not writable; the checkpoints before stay.
        """
        learner = self._learner
        self._written_at = learner.clock()
        learner.journal.sync()
        learner.journal.due.set()  # whoever waits for this to tell actors may do so
        self.lineage_file.append(captured.died)
        path = save_checkpoint(learner.run.checkpoints, captured.state, captured.members)
        self._needed.append(captured.replay_from)
        return str(path)

    def drop_old(self) -> None:
        """Delete what no checkpoint that is kept needs: older ones, and the journal before them.

        Raises:
            StorageError: the disk is not writable.
        """
        drop_checkpoints(self._learner.run.checkpoints, self._learner.config.checkpoint.keep)
        if len(self._needed) == self._needed.maxlen:
            self._learner.journal.drop_before(min(self._needed))
