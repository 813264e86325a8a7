"""What training slots carry from fragment to fragment beside their environments: decisions that are still open.

An agent's decision is open until the agent is to act again, or ends. Where agents wait, a fragment may end between the
two; the row of the decision is then repeated at the beginning of the slot's next stream, as a lead-in row.

Dims: S training slots, L lead-in rows of one slot, N agents of a group, A agents, group by group (see
`covey.envs.arrays`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.rows import Active
from covey.spaces import EnvironmentSpaces


@dataclass(frozen=True, slots=True)
class LeadIn:
    """The rows of one slot in which an agent's decision is still open, oldest first.

    Attributes:
        observation: Per group (L, N, *shape).
        action: Per group (L, N, *shape).
        mask: Per group (L, N, mask width), None without masks.
        active: (L, A), an `Active` value.
        age: (L, A), env steps from the row to the end of the fragment, for agents whose decision is open; else 0.
        reward: (L, A) float64, the undiscounted sum of those agents' rewards over these steps; else 0.
    """

    observation: Sequence[NDArray[Any]]
    action: Sequence[NDArray[Any]]
    mask: Sequence[NDArray[np.uint8] | None]
    active: NDArray[np.uint8]
    age: NDArray[np.int64]
    reward: NDArray[np.float64]


class Carried:
    """What every training slot carries: last actions, lead-in rows of open decisions, and cuts still to be reported.

    Attributes:
        action: Per group (S, N, *shape): what living agents did last, which their rows repeat while they wait; zeros
            for agents that have done nothing, or are not there.
        lead_in: Rows of open decisions by slot; slots without any are left out.
        cut: Slots whose last episode was abandoned, which the slot's next stream has to say.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self.action = [np.zeros((slots, len(g), *g.action.shape), g.action.dtype) for g in spaces.groups]
        self.lead_in: dict[int, LeadIn] = {}
        self.cut: set[int] = set()
        self._agents = group_columns(spaces)

    def begin_episode(self, slot: int) -> None:
        """Forget the last actions and open decisions of a slot: nobody has done anything in the new episode."""
        self.lead_in.pop(slot, None)
        for action in self.action:
            action[slot] = 0

    def abandon(self, slot: int, began: bool) -> None:
        """Drop the slot's open decisions with its episode; an episode that `began`, so has rows, is reported as cut."""
        self.lead_in.pop(slot, None)
        if began:
            self.cut.add(slot)

    def decide(self, arrays: SlotArrays, chosen: Sequence[NDArray[Any]], slots: Any) -> None:
        """Bring `action` of these slots up to date: what agents chose, were forced to, or did when they last acted.

        Args:
            arrays: What the environments show before the step.
            chosen: Per group (S or more, N, *shape), read where an agent chooses.
            slots: An index into the slots: a slice or an array.
        """
        for g, agents in enumerate(self._agents):
            # Later lines win: 0 if not there, else the last action, else the forced one, else the chosen one.
            present, living = arrays.present[slots][:, agents], arrays.living[slots][:, agents]
            last = self.action[g][slots]
            lead = (*present.shape, *(1,) * (last.ndim - 2))
            action = np.where(living.reshape(lead), last, 0)
            action = np.where((present == Active.FORCED).reshape(lead), arrays.forced[g][slots], action)
            self.action[g][slots] = np.where((present == Active.CHOSE).reshape(lead), chosen[g][slots], action)

    def waiting(self, arrays: SlotArrays) -> list[NDArray[Any]]:
        """Actions for rows that are no steps, per group (S, N, *shape): the last ones of agents that wait, or zeros."""
        actions = []
        for last, agents in zip(self.action, self._agents, strict=True):
            # Both are 0 or more, and `present` is 0 for an agent that waits: living and not present.
            waits = (arrays.living > arrays.present)[: len(last), agents]
            actions.append(np.where(waits.reshape(*waits.shape, *(1,) * (last.ndim - 2)), last, 0))
        return actions


def group_columns(spaces: EnvironmentSpaces) -> list[slice]:
    """For each group, the slice of its agents on an axis of all agents, group by group."""
    ends = np.cumsum([len(g) for g in spaces.groups]).tolist()
    return [slice(end - len(g), end) for g, end in zip(spaces.groups, ends, strict=True)]
