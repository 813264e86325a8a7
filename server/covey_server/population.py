"""What a run consists of once its spaces are known, and the sums that are kept of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from covey.rows import RowSchema
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms import Algorithm
from covey_server.evolution.lineage import Lineage
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.member import Member
from covey_server.packing.policies import PolicyStore


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


@dataclass
class Population:
    """What exists once the spaces are known."""

    spaces: EnvironmentSpaces
    schema: RowSchema
    experience: Replay | Rollouts  # off-policy, on-policy
    policies: PolicyStore
    members: list[Member]
    algorithm: Algorithm
    lineage: Lineage
