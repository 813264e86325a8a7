"""What an actor's training environments carry from one message to the next, such as decisions without an outcome.

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
    """The timesteps of one environment in which an agent's decision is still without outcome, oldest first.

    Of L timesteps, N agents of a group and A agents in all. An outcome is known when the agent acts again or ends.

    Attributes:
        observation: Per group (L, N, *shape).
        action: Per group (L, N, *shape).
        mask: Per group (L, N, mask width), None without masks.
        active: (L, A), an `Active` value.
        age: (L, A), env steps from the row to the end of the fragment, for agents whose decision is open; else 0.
        reward: (L, A) float64, the undiscounted sum of those agents' rewards over these steps; else 0.
        state: (L, *shape), of the whole environment; None where rows do not hold it.
    """

    observation: Sequence[NDArray[Any]]
    action: Sequence[NDArray[Any]]
    mask: Sequence[NDArray[np.uint8] | None]
    active: NDArray[np.uint8]
    age: NDArray[np.int64]
    reward: NDArray[np.float64]
    state: NDArray[Any] | None


class Carried:
    """What S training environments carry from one message to the next: last actions, and decisions without an outcome.

    N agents of a group.

    Attributes:
        action: Per group (S, N, *shape): what living agents did last, which their rows repeat while they wait; zeros
            for agents that have done nothing, or are not there.
        lead_in: Rows of open decisions by slot; slots without any are left out.
        context: Where policies read stacks of observations: by slot those before the one that it shows, oldest first,
            per group (up to frame_stack - 1, N, *shape), with which the slot's next stream begins.
        cut: Slots whose last episode was abandoned, which the slot's next stream has to say.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self.action = [np.zeros((slots, len(g), *g.action.shape), g.action.dtype) for g in spaces.groups]
        self.lead_in: dict[int, LeadIn] = {}
        self.context: dict[int, Sequence[NDArray[Any]]] = {}
        self.cut: set[int] = set()
        self._agents = group_columns(spaces)

    def begin_episode(self, slot: int) -> None:
        """Forget the last actions and pending decisions of an environment, as a new episode begins in it."""
        self.lead_in.pop(slot, None)
        for action in self.action:
            action[slot] = 0

    def abandon(self, slot: int, began: bool) -> None:
        """Drop an environment's pending decisions with its episode.

        An episode that has timesteps is reported as cut.
        """
        self.lead_in.pop(slot, None)
        if began:
            self.cut.add(slot)

    def decide(self, arrays: SlotArrays, chosen: Sequence[NDArray[Any]], slots: Any) -> None:
        """Update the agents' last actions: what they chose, were forced to, or did when they last acted.

        Args:
            arrays: What the environments show before the step.
            chosen: Per group (environments, agents of the group, *shape), read where an agent chooses.
            slots: An index into the slots: a slice or an array.
        """
        for g, agents in enumerate(self._agents):
            # Later lines win: 0 if not there, else the last action, else the forced one, else the chosen one.
            present, living = arrays.present[slots][:, agents], arrays.living[slots][:, agents]
            last = self.action[g][slots]
            lead = (*present.shape, *(1,) * (last.ndim - 2))
            action = np.where(living.reshape(lead), last, np.zeros((), last.dtype))
            action = np.where((present == Active.FORCED).reshape(lead), arrays.forced[g][slots], action)
            self.action[g][slots] = np.where((present == Active.CHOSE).reshape(lead), chosen[g][slots], action)

    def waiting(self, arrays: SlotArrays) -> list[NDArray[Any]]:
        """Return per group the last actions of agents that wait, and zeros for others, for rows that are no steps."""
        actions = []
        for last, agents in zip(self.action, self._agents, strict=True):
            # Both are 0 or more, and `present` is 0 for an agent that waits: living and not present.
            waits = (arrays.living > arrays.present)[: len(last), agents]
            nothing = np.zeros((), last.dtype)
            actions.append(np.where(waits.reshape(*waits.shape, *(1,) * (last.ndim - 2)), last, nothing))
        return actions


def group_columns(spaces: EnvironmentSpaces) -> list[slice]:
    """Return for each group the slice of its agents on an axis that holds all agents, group by group."""
    ends = np.cumsum([len(g) for g in spaces.groups]).tolist()
    return [slice(end - len(g), end) for g, end in zip(spaces.groups, ends, strict=True)]
