"""Finds which agents are alike, and which networks are padded to one size so that they learn in one batch.

Agents of a type see and do the same things (homogeneous agents). Types of a padding group differ in what their networks
read and give; padded to the widest, policies and values of all of them are one pack wherever the layers between are
alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from covey.config import AlgorithmSettings
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces, Space
from covey_server.algorithms.distributions import Distribution, distribution_of
from covey_server.algorithms.joint_view import JointView
from covey_server.algorithms.roles import indicator

MAX_PADDED_WIDTH = 256
"""Networks that read or give more numbers are padded neither to others nor with them: there they begin to cost."""


@dataclass(frozen=True, slots=True)
class AgentType:
    """Agents with equal observation and action spaces, and what their networks have in common.

    Attributes:
        ids: Network ids of the type, and the agents that each plays.
        observation: What the agents' networks read: what the agents see, or stacks of it.
        action: What they do.
        masked: Whether their observations come with masks of legal actions.
        indicator: Length of the one-hot index that policies of several agents read; 0 for none.
        distribution: Of the policies' actions.
    """

    ids: dict[str, tuple[int, ...]]
    observation: Space
    action: Space
    masked: bool
    indicator: int
    distribution: Distribution

    @property
    def width(self) -> int:
        """Number of inputs of a network of these agents: the observation, and the agent's one-hot index if any."""
        return self.observation.width + self.indicator


def padding_groups(spaces: EnvironmentSpaces, algorithm: AlgorithmSettings) -> list[list[AgentType]]:
    """Group all types of agents by whose networks are padded to one size, so that they learn in one batch.

    Small types are one group; each type with a network wider than `MAX_PADDED_WIDTH` is a group of its own.
    """
    types: dict[object, AgentType] = {}
    for network_id, agents in network_ids(spaces, algorithm.share_parameters).items():
        first, width = spaces.agents[agents[0]], indicator(algorithm, agents)
        own = AgentType({}, first.stacked, first.action, first.masked, width, distribution_of(first.action))
        types.setdefault((first.stacked, first.action, first.masked, width), own).ids[network_id] = agents
    groups: dict[object, list[AgentType]] = {}
    for i, own in enumerate(types.values()):
        small = max(own.width, own.action.width) <= MAX_PADDED_WIDTH
        groups.setdefault("small" if small else i, []).append(own)
    return list(groups.values())


def joint_width(group: Sequence[AgentType], joint: JointView) -> int:
    """Return how many numbers the widest value network of a padding group reads, the agent's one-hot index included."""
    return max(joint.width(agents[0]) + own.indicator for own in group for agents in own.ids.values())
