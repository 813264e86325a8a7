"""What a run consists of once its spaces are known, and the sums that are kept of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from covey.rows import RowSchema
from covey.run.state_upgrades import check_version
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import Algorithm
from covey_server.evolution.lineage import Lineage
from covey_server.experience.experience import Experience
from covey_server.member import Member
from covey_server.orders.pace import Pace
from covey_server.packing.policies import PolicyStore

VERSION = 1
"""Of the state of totals that a checkpoint keeps."""


@dataclass
class Totals:
    """Sums over the run; they go into checkpoints."""

    env_steps: int = 0
    eval_env_steps: int = 0
    updates: int = 0
    passes: int = 0
    members_in_passes: int = 0
    wire_bytes: int = 0
    raw_bytes: int = 0
    staleness_updates: int = 0  # summed over fragments' policies
    staleness_samples: int = 0
    actor_wait_s: float = 0.0
    learner_wait_s: float = 0.0
    idle_s: float = 0.0  # wall time in which no actor had an order, from the first order on
    training_s: float = 0.0  # before this life of the learner
    counters: Counter[str] = field(default_factory=Counter)

    def to_state(self, training_s: float) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON.

        Args:
            training_s: Seconds of training over all lives so far.
        """
        return {**vars(self), "version": VERSION, "counters": dict(self.counters), "training_s": training_s}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Totals:
        """Inverse of `to_state`.

        Raises:
            StorageError: it is of a newer version.
            KeyError, TypeError, ValueError: no such state.
        """
        check_version("totals", state, VERSION)
        fields = {name: value for name, value in state.items() if name != "version"}
        return Totals(**{**fields, "counters": Counter(fields["counters"])})


@dataclass
class Population:
    """What exists once the spaces are known."""

    spaces: EnvironmentSpaces
    schema: RowSchema
    experience: Experience
    pace: Pace
    policies: PolicyStore
    members: list[Member]
    algorithm: Algorithm
    lineage: Lineage
