"""What the actor that is tried is asked for: work of training slots, and evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from covey.v1.order_pb2 import Exploration
from covey_server.compliance.policies import SamplePolicy

Players = Sequence[SamplePolicy | None]
"""Who plays each agent, in environment order; None is the built-in random policy."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one order wants of one training slot; the fields are those of `SlotWork`."""

    slot: int
    players: Players
    steps: int
    restart: bool = False
    seed: int = 0
    until_episode_end: bool = False
    exploration: Exploration | None = None


@dataclass(slots=True)
class Task:
    """One evaluation that was asked for.

    Attributes:
        players: The policy of each agent.
        seeds: One episode for each.
        longest: Env steps after which an episode is cut off.
        open: Seeds whose episodes were not reported yet.
        returns: Return of each agent in the episode of each seed.
        void: Whether the learner has restarted since.
    """

    players: Players
    seeds: Sequence[int]
    longest: int
    open: set[int] = field(default_factory=set)
    returns: dict[int, list[float]] = field(default_factory=dict)
    void: bool = False
