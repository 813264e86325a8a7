"""Agents of an environment with their spaces, and the groups that agents form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from covey.errors import ConfigError, SpaceError
from covey.spaces.kinds import Box, Space
from covey.spaces.stacks import MOST_FRAMES, stacked_space


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent of an environment: id, spaces, and whether the environment says which of its actions are legal.

    Attributes:
        agent_id: Its name in the environment.
        observation: The space of what it observes in one env step, which is what rows hold.
        action: The space of its actions.
        masked: Whether the environment says which actions are legal.
        frame_stack: How many of its last observations its networks read, joined into one.
        stacked: The space of what they read: `observation` where `frame_stack` is 1.
    """

    agent_id: str
    observation: Space
    action: Space
    masked: bool = False
    frame_stack: int = 1
    stacked: Space = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stacked", stacked_space(self.observation, self.frame_stack))


@dataclass(frozen=True, slots=True)
class Group:
    """Agents with equal spaces that may share a policy; `agents` are indices into `EnvironmentSpaces.agents`.

    The other attributes are those of each of its agents, see `AgentSpec`.
    """

    group_id: str
    agents: tuple[int, ...]
    observation: Space
    action: Space
    masked: bool = False
    frame_stack: int = 1
    stacked: Space = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stacked", stacked_space(self.observation, self.frame_stack))

    def __len__(self) -> int:
        return len(self.agents)


@dataclass(frozen=True, slots=True)
class EnvironmentSpaces:
    """Every agent of an environment, in the order of its `possible_agents`, and the groups they form."""

    agents: tuple[AgentSpec, ...]
    groups: tuple[Group, ...]
    asynchronous: bool = False  # living agents need not act in every step, as in games with turns
    state: Box | None = None  # of the whole environment, where rows hold that too (`environment.state`)

    @property
    def agent_ids(self) -> tuple[str, ...]:
        """Agent ids in environment order."""
        return tuple(a.agent_id for a in self.agents)

    @property
    def frame_stack(self) -> int:
        """How many of their last observations all agents' networks read, joined into one; 1: the newest alone."""
        return self.agents[0].frame_stack

    @staticmethod
    def build(
        agents: Sequence[AgentSpec],
        groups: Mapping[str, Sequence[str]] | None = None,
        *,
        asynchronous: bool = False,
        frame_stack: int = 1,
        state: Box | None = None,
    ) -> EnvironmentSpaces:
        """Form the groups of an environment's agents.

        Args:
            agents: In the order of `possible_agents`.
            groups: Agent ids by group id; None: agents with the same prefix before the last `_` and equal spaces.
            asynchronous: Whether living agents may wait.
            frame_stack: How many of their last observations all agents' networks read.
            state: The space of the whole environment's state, where rows hold it.

        Raises:
            SpaceError: no agents, a repeated agent id, ids from which two groups get one name, or stacks of frames
                where agents wait.
            ConfigError: `groups` leaves an agent out, names one twice, or joins unequal spaces.
        """
        if asynchronous and frame_stack > 1:
            raise SpaceError(
                f"environment.frame_stack: {frame_stack}, but agents of this environment wait while others act, "
                f"expected ones that all observe something new in every env step; leave it out, or let "
                f"{_listed(agents)} act in every step"
            )
        if not 1 <= frame_stack <= MOST_FRAMES:
            raise SpaceError(f"environment.frame_stack: {frame_stack}, expected 1 to {MOST_FRAMES}")
        agents = tuple(replace(a, frame_stack=frame_stack) for a in agents)
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
            built.append(Group(group_id, tuple(members), *_kind(first), frame_stack))
        return EnvironmentSpaces(agents, tuple(built), asynchronous, state)


def _listed(agents: Sequence[AgentSpec]) -> str:
    """Name the first of some agents."""
    names = ", ".join(repr(a.agent_id) for a in agents[:3])
    return names + f" and {len(agents) - 3} more" * (len(agents) > 3)


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
