"""Converts arrays in which agents stand group by group to PettingZoo's dictionaries of arrays by agent.

Dims: E environments, A agents (group by group, see `covey.envs.arrays`), N agents of a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.errors import EnvironmentLoadError
from covey.rows import Active
from covey.spaces import FORCED_KEY, MASK_KEY, EnvironmentSpaces, leaf_arrays, leaves, nested, part_of

ByAgent = dict[str, NDArray[Any]]


class AgentOrder:
    """Converts between arrays over groups of agents and dictionaries by agent, in the environment's order.

    Args:
        spaces: Spaces of the environments.
    """

    def __init__(self, spaces: EnvironmentSpaces) -> None:
        self._groups = spaces.groups
        places = [(g, n) for g, group in enumerate(spaces.groups) for n in range(len(group))]
        by_index = {spaces.groups[g].agents[n]: (p, g, n) for p, (g, n) in enumerate(places)}
        # By agent: its column in (E, A), its group, its place in the group.
        self._where = {agent: by_index[i] for i, agent in enumerate(spaces.agent_ids)}

    def observations(self, arrays: SlotArrays) -> ByAgent:
        """Copy each agent's observations, (environments, *shape)."""
        groups = [seen.swapaxes(0, 1).copy() for seen in arrays.observation]
        return {agent: groups[g][n] for agent, (_, g, n) in self._where.items()}

    def nested(self, observations: ByAgent) -> dict[str, Any]:
        """Return observations as environments have them: dictionaries and tuples of arrays where spaces are trees."""
        return {
            agent: nested(self._groups[g].observation, observations[agent]) for agent, (_, g, _) in self._where.items()
        }

    def update(self, observations: ByAgent, arrays: SlotArrays, envs: NDArray[np.intp]) -> None:
        """Overwrite the observations of these environments in each agent's array; those of others stay as they are."""
        for agent, (_, g, n) in self._where.items():
            observations[agent][envs] = arrays.observation[g][envs, n]

    def columns(self, values: NDArray[Any]) -> ByAgent:
        """Return each agent's row of an array (agents, environments), as a view."""
        return {agent: values[p] for agent, (p, _, _) in self._where.items()}

    def infos(self, arrays: SlotArrays) -> dict[str, Any]:
        """Return each agent's info: whether it is to act, its action mask if any, and actions forced on it."""
        present = arrays.present.T.copy()
        infos: dict[str, Any] = {}
        for agent, (p, g, n) in self._where.items():
            infos[agent] = {"active": present[p]}
            if (mask := arrays.mask[g]) is not None:
                infos[agent][MASK_KEY] = mask[:, n].copy()
            if Active.FORCED in present[p]:
                infos[agent][FORCED_KEY] = nested(self._groups[g].action, arrays.forced[g][:, n].copy())
        return infos

    def stack(self, actions: Mapping[str, Any], present: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Stack the agents' actions into one array (E, N, *shape) per group: E environments, N agents of the group.

        A agents in all.

        Args:
            actions: By agent (E, *shape), or anything of that size; none for agents that are not to act.
            present: (E, A), an `Active` value: who is to act.

        Raises:
            EnvironmentLoadError: an agent that is to act has no action, or an action has another shape.
        """
        count = len(present)
        stacked: list[NDArray[Any]] = [
            np.zeros((count, len(group), *group.action.shape), group.action.dtype) for group in self._groups
        ]
        for agent, (p, g, n) in self._where.items():
            target = stacked[g][:, n]
            if agent not in actions:
                if (needed := np.flatnonzero(present[:, p] == Active.CHOSE)).size:
                    raise EnvironmentLoadError(
                        f"actions: none for {agent!r}, which is to act in environment {needed[0]}"
                    )
                continue
            space = self._groups[g].action
            for leaf, part in zip(leaves(space), leaf_arrays(space, target), strict=True):
                given = np.asarray(part_of(actions[agent], leaf, f"actions of {agent!r}", EnvironmentLoadError))
                if given.shape[:1] != part.shape[:1] or given.size != part.size:
                    what = f"actions of {agent!r}{', ' * bool(leaf.name)}{leaf.name}"
                    raise EnvironmentLoadError(f"{what}: shape {given.shape}, expected {part.shape}")
                part[...] = given.reshape(part.shape)
        return stacked
