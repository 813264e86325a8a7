"""Chooses actions in training loops, converting dictionaries by agent into covey's arrays, and back.

Shapes: E environments, N agents of a group, A agents of all groups, group by group ("columns", `covey.envs.arrays`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.acting import Decisions, LoadedPolicy
from covey.envs.arrays import SlotArrays
from covey.envs.observed import Observations
from covey.envs.returned import flat_mask, split_mask
from covey.errors import SpaceError
from covey.rows import Active
from covey.spaces import FORCED_KEY, MASK_KEY, EnvironmentSpaces, leaf_arrays, leaves, nested, part_of
from covey.v1.order_pb2 import Exploration

ByAgent = Mapping[str, Any]


class RawActions(dict[str, Any]):
    """Actions as the replay memory stores them: (environments, *shape) by agent, in units of the action space.

    They equal the actions for the environment, except that samples of Gaussian policies are not clipped.

    Attributes:
        spaces: Spaces of the environments.
        seen: The observations that the agents acted on, with masks, and which agents acted.
    """

    def __init__(self, actions: Mapping[str, Any], spaces: EnvironmentSpaces, seen: SlotArrays) -> None:
        super().__init__(actions)
        self.spaces = spaces
        self.seen = seen


def columns(spaces: EnvironmentSpaces) -> Iterator[tuple[int, int, int, str]]:
    """Yield for each agent, group by group: its position, index of its group, position in the group, agent id."""
    where = [(g, n, agent) for g, group in enumerate(spaces.groups) for n, agent in enumerate(group.agents)]
    for p, (g, n, agent) in enumerate(where):
        yield p, g, n, spaces.agents[agent].agent_id


def is_batched(obs: ByAgent, spaces: EnvironmentSpaces) -> bool:
    """Whether observations by agent have a leading axis of environments, judged by the shape of the first known agent.

    Raises:
        SpaceError: no observation is that of an agent of these spaces.
    """
    for *_, g, _, agent in columns(spaces):
        if agent in obs:
            leaf = leaves(spaces.groups[g].observation)[0]
            return np.ndim(part_of(split_mask(obs[agent])[0], leaf, f"agent {agent!r}")) > len(leaf.space.shape)
    raise SpaceError(f"observations of {', '.join(map(repr, obs))}, expected some of {', '.join(spaces.agent_ids)}")


def with_batch_axis(by_agent: ByAgent) -> dict[str, Any]:
    """Add a leading axis of length 1 to the arrays by agent of a single environment, nested dictionaries included."""
    return {agent: _batch_of_one(value) for agent, value in by_agent.items()}


def _batch_of_one(value: Any) -> Any:
    """Add a leading axis of length 1 to arrays in dictionaries and tuples."""
    if isinstance(value, Mapping):
        return {key: _batch_of_one(part) for key, part in value.items()}
    return tuple(map(_batch_of_one, value)) if isinstance(value, tuple) else np.asarray(value)[None]


def by_groups(by_agent: ByAgent, spaces: EnvironmentSpaces, environments: int) -> list[NDArray[Any]]:
    """Stack actions by agent into one array (environments, agents of the group, *shape) per group, zeros if missing."""
    stacked: list[NDArray[Any]] = [
        np.zeros((environments, len(group), *group.action.shape), group.action.dtype) for group in spaces.groups
    ]
    for _, g, n, agent in columns(spaces):
        if agent in by_agent:
            space = spaces.groups[g].action
            for leaf, target in zip(leaves(space), leaf_arrays(space, stacked[g][:, n]), strict=True):
                target[...] = np.reshape(part_of(by_agent[agent], leaf, f"agent {agent!r}"), target.shape)
    return stacked


def by_agents(stacked: Sequence[NDArray[Any]], spaces: EnvironmentSpaces) -> dict[str, Any]:
    """Split one array (environments, agents, *shape) per group into one (environments, *shape) by agent.

    Dictionaries and tuples of arrays where action spaces are trees.
    """
    found = {agent: nested(spaces.groups[g].action, stacked[g][:, n]) for _, g, n, agent in columns(spaces)}
    return {agent: found[agent] for agent in spaces.agent_ids}


def to_slot_arrays(obs: ByAgent, infos: ByAgent, spaces: EnvironmentSpaces) -> SlotArrays:
    """Convert observations by agent into covey's arrays, which also say which agents are to act.

    Args:
        obs: Observations (environments, *shape) by agent, or dictionaries with "observation" and "action_mask". Those
            from covey's vectorised environments carry all further arrays; of others, the agents that they contain are
            to act.
        infos: By agent "action_mask" and "env_defined_actions" (NaN: the agent chooses); not needed with observations
            from covey's vectorised environments.
        spaces: Spaces of the environments.

    Raises:
        SpaceError: no known agent, or numbers of environments that differ between agents.
    """
    parts = {agent: split_mask(seen) for agent, seen in obs.items()}
    first = {agent: leaves(spaces.groups[g].observation)[0] for _, g, _, agent in columns(spaces)}
    sizes = {len(part_of(parts[a][0], leaf, f"agent {a!r}")) for a, leaf in first.items() if a in parts}
    if len(sizes) != 1:
        raise SpaceError(
            f"observations of {', '.join(map(repr, obs))}: batches of {sorted(sizes)}, expected one number of "
            f"environments and some of the agents {', '.join(spaces.agent_ids)}"
        )
    arrays = SlotArrays.zeros(spaces, sizes.pop())
    for p, g, n, agent in columns(spaces):
        if agent not in obs:
            continue
        group, info = spaces.groups[g], infos.get(agent) or {}
        seen, legal = parts[agent]
        legal = info.get(MASK_KEY) if legal is None else legal
        views, mask = leaf_arrays(group.observation, arrays.observation[g][:, n]), arrays.mask[g]
        for leaf, view in zip(leaves(group.observation), views, strict=True):
            view[...] = np.reshape(part_of(seen, leaf, f"agent {agent!r}"), view.shape)
        if mask is not None:
            mask[:, n] = 1 if legal is None else np.not_equal(flat_mask(legal, group.action), 0)
        arrays.present[:, p] = arrays.living[:, p] = Active.CHOSE
        if (forced := info.get(FORCED_KEY)) is not None:
            # Where the environment prescribes an action, that action is what the agent does.
            chosen = np.zeros(len(arrays.present), bool)
            targets = leaf_arrays(group.action, arrays.forced[g][:, n])
            for leaf, target in zip(leaves(group.action), targets, strict=True):
                values = np.reshape(part_of(forced, leaf, f"agent {agent!r}"), target.shape)
                chosen |= np.isnan(values).reshape(len(values), -1).any(1)
                target[~chosen] = values[~chosen]
            arrays.present[~chosen, p] = Active.FORCED
    if not isinstance(obs, Observations):
        return arrays
    now = obs.now
    # The observations come from the dictionary, because the caller may have changed them, by scaling for example.
    return replace(now, observation=arrays.observation)


class Acting:
    """Chooses actions for E environments, and holds the state of their exploration noise.

    Args:
        spaces: Spaces of the environments.
        environments: Number of environments, E.
    """

    def __init__(self, spaces: EnvironmentSpaces, environments: int) -> None:
        self.environments = environments
        self._spaces = spaces
        self._decisions = Decisions(spaces, environments)
        self._planned: tuple[list[bytes], Exploration] | None = None

    def act(
        self,
        seen: SlotArrays,
        players: Sequence[LoadedPolicy],
        exploration: Exploration,
        rng: np.random.Generator,
        begun: NDArray[np.bool_] | None = None,
    ) -> tuple[dict[str, Any], RawActions]:
        """Choose actions for all agents.

        Args:
            seen: Observations and masks of E environments, and which agents are to act.
            players: The policy that plays each agent, in the environment's order.
            exploration: Kind and scale of the exploration noise.
            rng: Random generator for all draws.
            begun: (E,), in which environments an episode begins with these observations; None: not known.

        Returns:
            Actions (E, *shape) by agent for the environments, and the same as the replay memory stores them.
        """
        # The forward passes are prepared again only when policies or exploration have changed.
        plan = [p.sha256 for p in players], exploration
        if plan != self._planned:
            for e in range(self.environments):
                self._decisions.explore(e, exploration)
            self._decisions.plan(dict.fromkeys(range(self.environments), players))
            self._planned = plan
        if begun is not None and begun.any():
            self.forget(np.flatnonzero(begun).tolist())
        # Of dictionaries by agent it is not known whether an agent that is left out waits or is gone.
        living = None if begun is None else seen.living
        given, stored = self._decisions.decide(seen.observation, seen.mask, rng, seen.present, living)
        start = 0
        for g, group in enumerate(self._spaces.groups):
            forced = seen.present[:, start : start + len(group)] == Active.FORCED
            if forced.any():
                for actions in (given, stored):
                    actions[g][forced] = seen.forced[g][forced]
            start += len(group)
        return by_agents(given, self._spaces), RawActions(by_agents(stored, self._spaces), self._spaces, seen)

    def begin_episodes(self, environments: Sequence[int]) -> None:
        """Reset the exploration noise of these environments."""
        self._decisions.reset_noise(list(environments))

    def forget(self, environments: Sequence[int] | None) -> None:
        """Forget what agents with memory have seen in these environments, None: in all, as episodes begin there."""
        self._decisions.states.begin_episodes(range(self.environments) if environments is None else environments)
