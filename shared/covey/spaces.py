"""Agents, their spaces and their groups: what both sides must agree on before anything travels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from covey.errors import ConfigError, SpaceError


@dataclass(frozen=True, slots=True)
class Box:
    """An array of bounded numbers; `low` and `high` are row-major, `math.prod(shape)` long."""

    dtype: str
    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def width(self) -> int:
        """Numbers in the flattened array: what a network sees as inputs, or gives as outputs."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Discrete:
    """One of `n` integers from `start` on."""

    n: int
    start: int = 0

    dtype = "int64"
    shape = ()

    @property
    def width(self) -> int:
        """Length of the one-hot vector: what a critic sees of an action, or logits a policy gives."""
        return self.n


Space = Box | Discrete


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One participant of an environment."""

    agent_id: str
    observation: Space
    action: Space


@dataclass(frozen=True, slots=True)
class Group:
    """Agents with equal spaces that may share a policy; `agents` are indices into `EnvironmentSpaces.agents`."""

    group_id: str
    agents: tuple[int, ...]
    observation: Space
    action: Space

    def __len__(self) -> int:
        return len(self.agents)


@dataclass(frozen=True, slots=True)
class EnvironmentSpaces:
    """Every agent of an environment, in the order of its `possible_agents`, and the groups they form."""

    agents: tuple[AgentSpec, ...]
    groups: tuple[Group, ...]

    @property
    def agent_ids(self) -> tuple[str, ...]:
        """Agent ids in environment order."""
        return tuple(a.agent_id for a in self.agents)

    @staticmethod
    def build(agents: Sequence[AgentSpec], groups: Mapping[str, Sequence[str]] | None = None) -> EnvironmentSpaces:
        """Form groups: by name and equal spaces, or as `groups` (group id to agent ids) says.

        Raises:
            SpaceError: no agents, or a repeated agent id.
            ConfigError: `groups` leaves an agent out, names one twice, or joins unequal spaces.
        """
        agents = tuple(agents)
        ids = [a.agent_id for a in agents]
        if not agents or len(set(ids)) != len(ids):
            raise SpaceError(f"environment: agent ids {ids}, expected at least one and no id twice")
        named = _default_groups(agents) if not groups else _explicit_groups(ids, groups)
        built = []
        for group_id, members in named.items():
            first = agents[members[0]]
            for i in members[1:]:
                if (agents[i].observation, agents[i].action) != (first.observation, first.action):
                    raise ConfigError(
                        f"groups.{group_id}: {agents[i].agent_id!r} has spaces other than {first.agent_id!r}; "
                        "agents of a group need equal observation and action spaces: put them into two groups"
                    )
            built.append(Group(group_id, tuple(members), first.observation, first.action))
        return EnvironmentSpaces(agents, tuple(built))


def _default_groups(agents: Sequence[AgentSpec]) -> dict[str, list[int]]:
    """`<group>_<idx>` with equal spaces; where a prefix covers unequal spaces, each agent stands for itself."""
    by_prefix: dict[str, list[int]] = {}
    for i, agent in enumerate(agents):
        by_prefix.setdefault(agent.agent_id.rsplit("_", 1)[0], []).append(i)
    named: dict[str, list[int]] = {}
    for prefix, members in by_prefix.items():
        if len({(agents[i].observation, agents[i].action) for i in members}) == 1:
            named[prefix] = members
        else:
            named.update({agents[i].agent_id: [i] for i in members})
    return named


def _explicit_groups(ids: list[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    listed = [a for members in groups.values() for a in members]
    if sorted(listed) != sorted(ids) or not all(groups.values()):
        raise ConfigError(f"groups: name {sorted(listed)}, expected every agent of the environment once: {sorted(ids)}")
    return {g: [ids.index(a) for a in members] for g, members in groups.items()}


def from_gymnasium(space: gymnasium.Space, what: str) -> Space:  # type: ignore[type-arg]
    """Our form of a Gymnasium space; `what` names it in errors ("observation of agent 'a_0'").

    Raises:
        SpaceError: a kind of space that covey cannot serve.
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n), int(space.start))
    if isinstance(space, gymnasium.spaces.Box) and space.dtype is not None:
        low = np.asarray(space.low, dtype=np.float64).ravel().tolist()
        high = np.asarray(space.high, dtype=np.float64).ravel().tolist()
        return Box(np.dtype(space.dtype).name, tuple(space.shape), tuple(low), tuple(high))
    raise SpaceError(
        f"{what}: space {space}, expected Box or Discrete; wrap the environment so that it gives one of them"
    )


def action_bounds(space: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds that network outputs in [-1, 1] are mapped to, flat; where a bound is infinite, [-1, 1] itself."""
    low, high = np.asarray(space.low), np.asarray(space.high)
    finite = np.isfinite(low) & np.isfinite(high)
    return np.where(finite, low, -1.0), np.where(finite, high, 1.0)
