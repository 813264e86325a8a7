"""Data classes: the parts of a run that depend on the environment's spaces, and the run's totals."""

from __future__ import annotations

from collections import Counter, deque
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

KEPT_RETURNS = 1000
"""Newest episodes whose returns are kept, to find out whether they sum to zero."""

VERSION = 1
"""Format version of `Totals` in checkpoints."""


@dataclass
class Totals:
    """Totals over the run and all its members, continued when the run is resumed from a checkpoint.

    Attributes:
        env_steps: Env steps trained on.
        eval_env_steps: Env steps of evaluation episodes.
        updates: Critic updates, counted for each member.
        passes: Batched critic passes; one updates several members.
        members_in_passes: Members updated in these passes; divided by `passes`, the mean number of members per pass.
        wire_bytes: Bytes of fragments as received.
        raw_bytes: The same after decompression.
        staleness_updates: Age of the policies that fragments were collected with, in updates, summed.
        staleness_samples: Number of policies in that sum.
        actor_wait_s: Seconds that actors waited for orders.
        learner_wait_s: Seconds that the trainer waited for env steps.
        idle_s: Seconds, counted from the first order on, in which no actor had an order.
        training_s: Seconds of training before this learner process started.
        counters: Named counts of events, such as refused fragments.
    """

    env_steps: int = 0
    eval_env_steps: int = 0
    updates: int = 0
    passes: int = 0
    members_in_passes: int = 0
    wire_bytes: int = 0
    raw_bytes: int = 0
    staleness_updates: int = 0
    staleness_samples: int = 0
    actor_wait_s: float = 0.0
    learner_wait_s: float = 0.0
    idle_s: float = 0.0
    training_s: float = 0.0
    counters: Counter[str] = field(default_factory=Counter)

    def to_state(self, training_s: float) -> dict[str, Any]:
        """The totals as JSON, for a checkpoint.

        Args:
            training_s: Seconds of training in this and all earlier learner processes of the run.
        """
        return {**vars(self), "version": VERSION, "counters": dict(self.counters), "training_s": training_s}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> Totals:
        """Totals from the JSON that `to_state` returned.

        Raises:
            StorageError: a newer version of covey wrote it.
            KeyError, TypeError, ValueError: a field is missing, unknown or of another type.
        """
        check_version("totals", state, VERSION)
        fields = {name: value for name, value in state.items() if name != "version"}
        return Totals(**{**fields, "counters": Counter(fields["counters"])})


@dataclass
class Population:
    """The parts of a run that can be created only once the environment's spaces are known.

    Attributes:
        spaces: Observation and action spaces of all agents.
        schema: Columns of the rows in which actors send experience.
        experience: Memory that members learn from: replay, or rollouts.
        pace: Decides when a member's updates are due.
        policies: Serialised policies for actors.
        members: The living members, in order of their places.
        algorithm: Holds the members' networks packed, and updates them.
        lineage: Record of all members that ever lived.
        returns: Each agent's return in the newest episodes that members played against themselves and in which any
            agent's was not 0, with the name of the actor that reported them.
    """

    spaces: EnvironmentSpaces
    schema: RowSchema
    experience: Experience
    pace: Pace
    policies: PolicyStore
    members: list[Member]
    algorithm: Algorithm
    lineage: Lineage
    returns: deque[tuple[str, tuple[float, ...]]] = field(default_factory=lambda: deque(maxlen=KEPT_RETURNS))
