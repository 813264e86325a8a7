"""What training slots carry from order to order, beside their environments: what was decided and is not closed.

Dims: S training slots, L lead-in rows of one slot, N agents of a group, A agents in columns (see
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
    """Rows in which an agent's decision is still open, oldest first.

    Attributes:
        observation: Per group (L, N, *shape).
        action: Per group (L, N, *shape).
        mask: Per group (L, N, mask width), None without masks.
        active: (L, A).
        age: (L, A), env steps since, for agents whose decision is open; 0 for others.
        reward: (L, A) float64, those agents' rewards since.
    """

    observation: Sequence[NDArray[Any]]
    action: Sequence[NDArray[Any]]
    mask: Sequence[NDArray[np.uint8] | None]
    active: NDArray[np.uint8]
    age: NDArray[np.int64]
    reward: NDArray[np.float64]


class Carried:
    """Of all training slots.

    Attributes:
        action: Per group (S, N, *shape): what living agents did last, which their rows repeat while they wait; zeros
            for agents that have done nothing, or are not there.
        lead_in: By slot, where decisions are open.
        cut: Slots whose last episode was abandoned, and that no stream has told of yet.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self.action = [np.zeros((slots, len(g), *g.action.shape), g.action.dtype) for g in spaces.groups]
        self.lead_in: dict[int, LeadIn] = {}
        self.cut: set[int] = set()
        self._agents = group_columns(spaces)

    def begin_episode(self, slot: int) -> None:
        """Nobody has done anything yet."""
        self.lead_in.pop(slot, None)
        for action in self.action:
            action[slot] = 0

    def decide(self, arrays: SlotArrays, chosen: Sequence[NDArray[Any]], slots: Any) -> None:
        """Bring `action` of these slots up to date: what agents chose, were forced to, or did when they last acted.

        Args:
            arrays: What the environments show.
            chosen: Per group (S or more, N, *shape).
            slots: An index.
        """
        for g, agents in enumerate(self._agents):
            present, living = arrays.present[slots][:, agents], arrays.living[slots][:, agents]
            last = self.action[g][slots]
            lead = (*present.shape, *(1,) * (last.ndim - 2))
            action = np.where(living.reshape(lead), last, 0)
            action = np.where((present == Active.FORCED).reshape(lead), arrays.forced[g][slots], action)
            self.action[g][slots] = np.where((present == Active.CHOSE).reshape(lead), chosen[g][slots], action)

    def waiting(self, arrays: SlotArrays) -> list[NDArray[Any]]:
        """Per group (S, N, *shape), what rows without an action hold: what agents that wait did last, else zeros."""
        actions = []
        for last, agents in zip(self.action, self._agents, strict=True):
            waits = (arrays.living > arrays.present)[: len(last), agents]
            actions.append(np.where(waits.reshape(*waits.shape, *(1,) * (last.ndim - 2)), last, 0))
        return actions


def group_columns(spaces: EnvironmentSpaces) -> list[slice]:
    """Each group's agents among the columns."""
    ends = np.cumsum([len(g) for g in spaces.groups]).tolist()
    return [slice(end - len(g), end) for g, end in zip(spaces.groups, ends, strict=True)]
