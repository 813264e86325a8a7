"""Where network outputs lie, and what actions they become.

Dims: S slots, N agents of a group, D numbers of one action, W outputs of all agents of an environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.spaces import Box, Discrete, EnvironmentSpaces, Group, action_bounds


@dataclass(frozen=True, slots=True)
class GroupOutputs:
    """A group's slice of the outputs: `agents` agents of `width` numbers each, from column `start` on."""

    group: Group
    start: int
    agents: int
    width: int

    @property
    def columns(self) -> slice:
        """The slice."""
        return slice(self.start, self.start + self.agents * self.width)


class ActionLayout:
    """Outputs of all agents side by side: groups with Box actions first, then those with Discrete actions.

    So squashing, noise and the mapping to bounds are each one operation on `[:, :box_width]`.
    """

    def __init__(self, spaces: EnvironmentSpaces) -> None:
        start = 0
        placed: dict[str, GroupOutputs] = {}
        for kind in (Box, Discrete):
            for g in spaces.groups:
                if isinstance(g.action, kind):
                    placed[g.group_id] = GroupOutputs(g, start, len(g), g.action.width)
                    start += len(g) * g.action.width
            if kind is Box:
                self.box_width = start
        self.width = start
        self.groups = tuple(placed[g.group_id] for g in spaces.groups)
        self.discrete = tuple(g for g in self.groups if isinstance(g.group.action, Discrete))
        low, high = np.empty(self.box_width), np.empty(self.box_width)
        for out in self.groups:
            if isinstance(out.group.action, Box):
                lo, hi = action_bounds(out.group.action)
                low[out.columns], high[out.columns] = np.tile(lo, out.agents), np.tile(hi, out.agents)
        self._low, self._high = low, high
        self._middle, self._half = (high + low) / 2, (high - low) / 2

    def box_actions(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Actions in [-1, 1], (S, box_width), mapped to the spaces' bounds; works in place."""
        unit *= self._half
        unit += self._middle
        # Rounding may step over a bound by one unit in the last place; environments and the learner check bounds.
        np.maximum(unit, self._low, out=unit)
        return np.minimum(unit, self._high, out=unit)

    def split(self, box: NDArray[np.float64], choices: dict[str, NDArray[np.int64]]) -> list[NDArray[Any]]:
        """Fresh arrays (S, N, *action shape), one per group in the spaces' order, in the spaces' dtypes.

        Args:
            box: (S, box_width) in the spaces' units.
            choices: (S, N) indices from 0, by group id.
        """
        actions: list[NDArray[Any]] = []
        for out in self.groups:
            space = out.group.action
            if isinstance(space, Discrete):
                actions.append(choices[out.group.group_id] + space.start)
                continue
            values = box[:, out.columns].reshape(len(box), out.agents, *space.shape)
            if np.dtype(space.dtype).kind != "f":
                values = np.rint(values)
            actions.append(values.astype(space.dtype))
        return actions
