"""Acting for training loops: from dictionaries of observations to dictionaries of actions, and back to what slots show.

Dims: E environments, N agents of a group, A agents in columns (see `covey.envs.arrays`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.acting import Decisions, LoadedPolicy
from covey.envs.arrays import SlotArrays
from covey.envs.vector import Observations
from covey.errors import SpaceError
from covey.rows import Active
from covey.spaces import FORCED_KEY, MASK_KEY, EnvironmentSpaces
from covey.v1.order_pb2 import Exploration

ByAgent = Mapping[str, Any]


class RawActions(dict[str, NDArray[Any]]):
    """What replay stores, (E, *shape) by agent, in the space's own units; of Gaussian policies the unclipped sample.

    Attributes:
        spaces: Of the environments.
        seen: What the agents saw when they decided, and who of them did.
    """

    def __init__(self, actions: Mapping[str, NDArray[Any]], spaces: EnvironmentSpaces, seen: SlotArrays) -> None:
        super().__init__(actions)
        self.spaces = spaces
        self.seen = seen


def columns(spaces: EnvironmentSpaces) -> Iterator[tuple[int, int, int, str]]:
    """Of every agent: its column, its group, its place in the group, its id."""
    where = [(g, n, agent) for g, group in enumerate(spaces.groups) for n, agent in enumerate(group.agents)]
    for p, (g, n, agent) in enumerate(where):
        yield p, g, n, spaces.agents[agent].agent_id


def is_batched(obs: ByAgent, spaces: EnvironmentSpaces) -> bool:
    """Whether observations are those of several environments."""
    for *_, g, _, agent in columns(spaces):
        if agent in obs:
            seen = obs[agent]["observation"] if isinstance(obs[agent], Mapping) else obs[agent]
            return np.ndim(seen) > len(spaces.groups[g].observation.shape)
    raise SpaceError(f"observations of {', '.join(map(repr, obs))}, expected some of {', '.join(spaces.agent_ids)}")


def lifted(by_agent: ByAgent) -> dict[str, Any]:
    """What one environment gave, as of a batch of one."""
    return {a: lifted(x) if isinstance(x, Mapping) else np.asarray(x)[None] for a, x in by_agent.items()}


def by_groups(by_agent: ByAgent, spaces: EnvironmentSpaces, environments: int) -> list[NDArray[Any]]:
    """Actions as slots take them, (E, N, *shape) per group; zeros for agents without one."""
    stacked: list[NDArray[Any]] = [
        np.zeros((environments, len(group), *group.action.shape), group.action.dtype) for group in spaces.groups
    ]
    for _, g, n, agent in columns(spaces):
        if agent in by_agent:
            stacked[g][:, n] = np.reshape(by_agent[agent], stacked[g][:, n].shape)
    return stacked


def by_agents(stacked: Sequence[NDArray[Any]], spaces: EnvironmentSpaces) -> dict[str, NDArray[Any]]:
    """Inverse of `by_groups`, agents in the environment's order."""
    found = {agent: stacked[g][:, n] for _, g, n, agent in columns(spaces)}
    return {agent: found[agent] for agent in spaces.agent_ids}


def shown(obs: ByAgent, infos: ByAgent, spaces: EnvironmentSpaces) -> SlotArrays:
    """What agents see and who is to act, as slots show it.

    Args:
        obs: A batch. What covey's environments give says all; of other dictionaries, the agents in them are to act.
        infos: By agent "action_mask" and "env_defined_actions", for other dictionaries.
        spaces: Of the environments.
    """
    sizes = {len(x["observation"] if isinstance(x, Mapping) else x) for a, x in obs.items() if a in spaces.agent_ids}
    if len(sizes) != 1:
        raise SpaceError(
            f"observations of {', '.join(map(repr, obs))}: batches of {sorted(sizes)}, expected one number of "
            f"environments and some of the agents {', '.join(spaces.agent_ids)}"
        )
    arrays = SlotArrays.zeros(spaces, sizes.pop())
    for p, g, n, agent in columns(spaces):
        if agent not in obs:
            continue
        seen, info = obs[agent], infos.get(agent) or {}
        given = seen if isinstance(seen, Mapping) else {"observation": seen, MASK_KEY: info.get(MASK_KEY)}
        view, mask = arrays.observation[g][:, n], arrays.mask[g]
        view[...] = np.reshape(given["observation"], view.shape)
        if mask is not None:
            mask[:, n] = 1 if given[MASK_KEY] is None else np.not_equal(given[MASK_KEY], 0)
        arrays.present[:, p] = arrays.living[:, p] = Active.CHOSE
        if (forced := info.get(FORCED_KEY)) is not None:
            target = arrays.forced[g][:, n]
            values = np.reshape(forced, target.shape)
            chosen = np.isnan(values).reshape(len(values), -1).any(1)
            target[~chosen] = values[~chosen]
            arrays.present[~chosen, p] = Active.FORCED
    if not isinstance(obs, Observations):
        return arrays
    now = obs.now
    # What somebody may have scaled or cut on the way is what the agents see.
    return replace(now, observation=arrays.observation)


class Acting:
    """Decides for E environments; holds their noise."""

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
    ) -> tuple[dict[str, NDArray[Any]], RawActions]:
        """What the environments are to be given, and what replay stores.

        Args:
            seen: What the agents see.
            players: Who plays each agent, in the environment's order.
            exploration: How.
            rng: Of every draw.
        """
        plan = [p.sha256 for p in players], exploration
        if plan != self._planned:
            for e in range(self.environments):
                self._decisions.explore(e, exploration)
            self._decisions.plan(dict.fromkeys(range(self.environments), players))
            self._planned = plan
        given, stored = self._decisions.decide(seen.observation, seen.mask, rng)
        start = 0
        for g, group in enumerate(self._spaces.groups):
            forced = seen.present[:, start : start + len(group)] == Active.FORCED
            if forced.any():
                for actions in (given, stored):
                    actions[g][forced] = seen.forced[g][forced]
            start += len(group)
        return by_agents(given, self._spaces), RawActions(by_agents(stored, self._spaces), self._spaces, seen)

    def begin_episodes(self, environments: Sequence[int]) -> None:
        """Noise of these environments starts anew."""
        self._decisions.begin_episodes(list(environments))
