"""Agents of an environment, their observation and action spaces, and the groups that agents form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
from numpy.typing import NDArray

from covey.errors import ConfigError, SpaceError

DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)
"""Element types that spaces may have: numbers of a fixed size, no objects and no strings."""


@dataclass(frozen=True, slots=True)
class Box:
    """The space of arrays of bounded numbers; `low` and `high` are flat, in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __repr__(self) -> str:
        low, high = (
            str(b[0]) if len(set(b)) == 1 else f"({', '.join(map(str, b[:4]))}{', ...' * (len(b) > 4)})"
            for b in (self.low, self.high)
        )
        return f"Box({self.dtype}, {self.shape}, {low} to {high})"

    @property
    def width(self) -> int:
        """Numbers in the flattened array, each an input or an output of a network."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Discrete:
    """The space of the `n` integers from `start` on."""

    n: int
    start: int = 0

    dtype = "int64"
    shape = ()

    @property
    def width(self) -> int:
        """Length of the one-hot vector that a network reads, and number of logits that it gives."""
        return self.n


@dataclass(frozen=True, slots=True)
class MultiDiscrete:
    """The space of several choices at once: number i is one of 0 to `nvec[i]` - 1."""

    nvec: tuple[int, ...]

    dtype = "int64"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an action or observation: one number per choice."""
        return (len(self.nvec),)

    @property
    def width(self) -> int:
        """Length of the one-hot vectors of all choices, one after another."""
        return sum(self.nvec)


@dataclass(frozen=True, slots=True)
class MultiBinary:
    """The space of `n` switches, numbers that are 0 or 1."""

    n: int

    dtype = "int8"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an action or observation: one number per switch."""
        return (self.n,)

    @property
    def width(self) -> int:
        """Number of switches, each of which a network reads as one number, or gives one logit for."""
        return self.n


Space = Box | Discrete | MultiDiscrete | MultiBinary


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent of an environment: id, spaces, and whether the environment says which of its actions are legal."""

    agent_id: str
    observation: Space
    action: Space
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Agents with equal spaces that may share a policy; `agents` are indices into `EnvironmentSpaces.agents`."""

    group_id: str
    agents: tuple[int, ...]
    observation: Space
    action: Space
    masked: bool = False

    def __len__(self) -> int:
        return len(self.agents)


@dataclass(frozen=True, slots=True)
class EnvironmentSpaces:
    """Every agent of an environment, in the order of its `possible_agents`, and the groups they form."""

    agents: tuple[AgentSpec, ...]
    groups: tuple[Group, ...]
    asynchronous: bool = False  # living agents need not act in every step, as in games with turns

    @property
    def agent_ids(self) -> tuple[str, ...]:
        """Agent ids in environment order."""
        return tuple(a.agent_id for a in self.agents)

    @staticmethod
    def build(
        agents: Sequence[AgentSpec], groups: Mapping[str, Sequence[str]] | None = None, *, asynchronous: bool = False
    ) -> EnvironmentSpaces:
        """Form the groups of an environment's agents.

        Args:
            agents: In the order of `possible_agents`.
            groups: Agent ids by group id; None: agents with the same prefix before the last `_` and equal spaces.
            asynchronous: Whether living agents may wait.

        Raises:
            SpaceError: no agents, a repeated agent id, or ids from which two groups get one name.
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
                if _kind(agents[i]) != _kind(first):
                    raise ConfigError(
                        f"groups.{group_id}: {agents[i].agent_id!r} has spaces other than {first.agent_id!r}; "
                        "agents of a group need equal observation and action spaces: put them into two groups"
                    )
            built.append(Group(group_id, tuple(members), *_kind(first)))
        return EnvironmentSpaces(agents, tuple(built), asynchronous)


def _kind(agent: AgentSpec) -> tuple[Space, Space, bool]:
    """Return what must be equal for agents of a group: spaces, and whether actions are masked."""
    return agent.observation, agent.action, agent.masked


def _default_groups(agents: Sequence[AgentSpec]) -> dict[str, list[int]]:
    """Group agents `<group>_<index>` with equal spaces; where a prefix has unequal spaces, each is a group of its own.

    Returns:
        Indices of agents by group id.

    Raises:
        SpaceError: two groups would have the same id.
    """
    by_prefix: dict[str, list[int]] = {}
    for i, agent in enumerate(agents):
        by_prefix.setdefault(agent.agent_id.rsplit("_", 1)[0], []).append(i)
    named: dict[str, list[int]] = {}
    for prefix, members in by_prefix.items():
        if len({_kind(agents[i]) for i in members}) == 1:
            named[prefix] = members
        else:
            named.update({agents[i].agent_id: [i] for i in members})
    if sum(map(len, named.values())) < len(agents):
        raise SpaceError(
            "environment: an agent of a group of its own has the id of another group, such as a_0 besides a_0_0; "
            "name the groups (environment.groups)"
        )
    return named


def _explicit_groups(ids: list[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Return the indices of agents by group id, as the configuration groups them.

    Raises:
        ConfigError: an agent is missing, unknown or named twice.
    """
    listed = [a for members in groups.values() for a in members]
    if sorted(listed) != sorted(ids) or not all(groups.values()):
        raise ConfigError(f"groups: name {sorted(listed)}, expected every agent of the environment once: {sorted(ids)}")
    return {g: [ids.index(a) for a in members] for g, members in groups.items()}


def from_gymnasium(space: gymnasium.Space, what: str) -> Space:  # type: ignore[type-arg]
    """Convert a Gymnasium space to covey's own type; `what` names it in errors ("observation of agent 'a_0'").

    Raises:
        SpaceError: a kind of space that covey cannot serve.
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete) and np.ndim(space.nvec) == 1 and not np.any(space.start):
        return MultiDiscrete(tuple(int(n) for n in space.nvec))
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return MultiBinary(int(space.shape[0]))
    if isinstance(space, spaces.Box) and space.dtype is not None:
        low = np.asarray(space.low, dtype=np.float64).ravel().tolist()
        high = np.asarray(space.high, dtype=np.float64).ravel().tolist()
        return Box(np.dtype(space.dtype).name, tuple(space.shape), tuple(low), tuple(high))
    if type(space).__module__.split(".")[0] == "gym":
        raise SpaceError(
            f"{what}: space {space} of the old package gym, expected one of gymnasium; import gymnasium in its place"
        )
    raise SpaceError(
        f"{what}: space {space}, expected Box, Discrete, MultiDiscrete or MultiBinary; "
        "wrap the environment so that it gives one of them"
    )


MASK_KEY = "action_mask"
"""Key of action masks (1: legal), in observations that are dictionaries, or in infos."""

FORCED_KEY = "env_defined_actions"
"""Key in an agent's info for the action that the environment takes in the agent's place."""


def observation_from_gymnasium(space: gymnasium.Space, what: str) -> tuple[Space, bool]:  # type: ignore[type-arg]
    """Convert a Gymnasium observation space to covey's own type; returns also whether it carries an action mask.

    Observations with a mask are dictionaries {observation, action_mask}; the space returned is the observation's.

    Raises:
        SpaceError: a kind of space that covey cannot serve.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        if set(space.spaces) == {"observation", MASK_KEY}:
            return from_gymnasium(space["observation"], what), True
        raise SpaceError(
            f"{what}: dictionary of {', '.join(map(str, space.spaces))}, expected observation and {MASK_KEY}; "
            "wrap the environment so that it gives one array"
        )
    return from_gymnasium(space, what), False


def mask_width(action: Space) -> int:
    """Return the length of an action mask: one number for each value of each discrete choice.

    Raises:
        SpaceError: actions that cannot be masked.
    """
    if isinstance(action, Discrete | MultiDiscrete):
        return action.width
    raise SpaceError(f"action mask: for {type(action).__name__} actions, expected Discrete or MultiDiscrete ones")


def choices(action: Space) -> tuple[int, ...]:
    """Return how many values each choice of an action has: (n,) for Discrete, (2, 2, ...) for MultiBinary.

    A Box has no choices: ().
    """
    match action:
        case Discrete(n):
            return (n,)
        case MultiDiscrete(nvec):
            return nvec
        case MultiBinary(n):
            return (2,) * n
    return ()


def action_bounds(space: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds, (width,) each, that outputs in [-1, 1] are mapped to; all of them are finite.

    Each number of the Box has its own. Where it has no bound, -1 and 1 take the place. Where it has one bound, the
    interval of length 2 that lies within it and nearest to [-1, 1] does: [0, 2] for 0 and more, [-1, 1] for -5 and
    more, [-7, -5] for -5 and less.
    """
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    above = np.maximum(low, -1.0)  # the interval's lower end if there is no upper bound; -1 if there is none at all
    below = np.minimum(high, 1.0)
    return (
        np.where(np.isfinite(high), np.where(np.isfinite(low), low, below - 2), above),
        np.where(np.isfinite(high), np.where(np.isfinite(low), high, below), above + 2),
    )
