"""One agent's part of the arrays that many copies of an environment write, so that nobody has to count columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.spaces import EnvironmentSpaces


@dataclass(frozen=True, slots=True)
class AgentArrays:
    """What S copies of an environment ("slots") show of one agent: views of `SlotArrays`, to be written in place.

    W numbers in an action mask.

    Attributes:
        agent_id: The agent.
        group: Its group's position in `EnvironmentSpaces.groups`, and so in `SlotArrays.observation` and in actions.
        index: Its position among the agents of its group.
        column: Its position in the arrays (S, A) of all agents.
        observation: (S, *shape).
        mask: (S, W), 1 for actions that are legal now; None if its actions are never masked.
        forced: (S, *action shape), the action that the environment takes where `present` is `Active.FORCED`.
        reward: (S,), of the last step.
        terminated: (S,), 1 where it terminated in the last step.
        truncated: (S,), 1 where it was truncated in the last step.
        present: (S,), an `Active` value: whether it is to act in the next step.
        living: (S,), 1 where it is in the episode.
    """

    agent_id: str
    group: int
    index: int
    column: int
    observation: NDArray[Any]
    mask: NDArray[np.uint8] | None
    forced: NDArray[Any]
    reward: NDArray[np.float64]
    terminated: NDArray[np.uint8]
    truncated: NDArray[np.uint8]
    present: NDArray[np.uint8]
    living: NDArray[np.uint8]

    def actions(self, actions: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return the agent's own actions, (S, *action shape), of those that `step` is given for all groups."""
        return actions[self.group][:, self.index]


def agent_arrays(spaces: EnvironmentSpaces, arrays: SlotArrays) -> dict[str, AgentArrays]:
    """Split the arrays of an environment's copies by agent, in the order of `possible_agents`.

    Args:
        spaces: What `attach` is given: the agents and the groups in which the arrays hold them.
        arrays: What `attach` is given besides.

    Returns:
        Views by agent id; what is written to them is written to `arrays`.
    """
    found: dict[int, AgentArrays] = {}
    for g, group in enumerate(spaces.groups):
        mask = arrays.mask[g]
        for n, agent in enumerate(group.agents):
            p = len(found)
            found[agent] = AgentArrays(
                agent_id=spaces.agents[agent].agent_id,
                group=g,
                index=n,
                column=p,
                observation=arrays.observation[g][:, n],
                mask=None if mask is None else mask[:, n],
                forced=arrays.forced[g][:, n],
                reward=arrays.reward[:, p],
                terminated=arrays.terminated[:, p],
                truncated=arrays.truncated[:, p],
                present=arrays.present[:, p],
                living=arrays.living[:, p],
            )
    return {found[i].agent_id: found[i] for i in range(len(found))}
