"""Maps network outputs to actions: which outputs belong to which agent, and the bounds of its action space.

Dims: S slots, N agents of a group, W outputs of one agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import MAX_SAMPLE_UNITS
from covey.spaces import Box, Discrete, EnvironmentSpaces, Group, MultiBinary, MultiDiscrete, Space, action_bounds


@dataclass(frozen=True, slots=True)
class GroupOutputs:
    """Where the outputs of one group's agents lie among all: `agents` of `width` numbers each, from `start` on."""

    group: Group
    start: int
    agents: int
    width: int

    @property
    def columns(self) -> slice:
        """The group's columns among the outputs of all agents."""
        return slice(self.start, self.start + self.agents * self.width)


class ActionLayout:
    """Places the outputs of all agents side by side: groups with Box actions first, then those with discrete actions.

    So squashing, noise and the mapping to bounds are each one operation on the first `box_width` columns.

    Args:
        spaces: Spaces of the environment.
        slots: Number of environments.

    Attributes:
        width: Outputs of all agents together.
        box_width: Outputs of the agents with Box actions.
        groups: Where each group's outputs lie, in the spaces' order of groups.
        choosing: The groups with discrete actions, each with its index among all groups.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self.slots = slots
        start = 0
        placed: dict[str, GroupOutputs] = {}
        for box in (True, False):
            for g in spaces.groups:
                if isinstance(g.action, Box) == box:
                    placed[g.group_id] = GroupOutputs(g, start, len(g), g.action.width)
                    start += len(g) * g.action.width
            if box:
                self.box_width = start
        self.width = start
        self.groups = tuple(placed[g.group_id] for g in spaces.groups)
        boxes = [g.action for g in spaces.groups if isinstance(g.action, Box)]
        self._box_dtypes = {box.dtype for box in boxes if np.dtype(box.dtype).kind == "f"}
        self.choosing = tuple((i, g) for i, g in enumerate(self.groups) if not isinstance(g.group.action, Box))
        # [-1, 1] is mapped to [low, high] by middle + half * unit.
        low, high = np.empty(self.box_width), np.empty(self.box_width)
        for out in self.groups:
            if isinstance(out.group.action, Box):
                lo, hi = action_bounds(out.group.action)
                low[out.columns], high[out.columns] = np.tile(lo, out.agents), np.tile(hi, out.agents)
        # Repeated for each slot: an operation on arrays of one shape takes a fifth of what broadcasting takes.
        bounds = (low, high, (high + low) / 2, (high - low) / 2)
        self._low, self._high, self._middle, self._half = (np.tile(b, (slots, 1)) for b in bounds)

    def box_actions(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map actions from [-1, 1] to the Box spaces' bounds, in place.

        The array has one row per environment, with the numbers of all agents' Box actions.
        """
        unit *= self._half
        unit += self._middle
        # Rounding may step over a bound by one unit in the last place; environments and the learner check bounds.
        np.maximum(unit, self._low, out=unit)
        return np.minimum(unit, self._high, out=unit)

    def box_samples(self, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map samples of Gaussian policies linearly, -1 and 1 to the Box spaces' bounds, without clipping, in place.

        The array has one row per environment, with the numbers of all agents' Box actions.
        """
        np.maximum(unit, -MAX_SAMPLE_UNITS, out=unit)
        np.minimum(unit, MAX_SAMPLE_UNITS, out=unit)
        unit *= self._half
        unit += self._middle
        return unit

    def split(self, box: NDArray[np.float64], choices: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Split the joint actions of S environments into a fresh array per group, in its action space's dtype.

        N agents of a group.

        Args:
            box: (S, box_width), Box actions in the spaces' units.
            choices: By group id what `best_choices` gives, (S, N, *action shape), for groups with discrete actions.

        Returns:
            Per group (S, N, *action shape).
        """
        typed = {dtype: box.astype(dtype) for dtype in self._box_dtypes}
        actions: list[NDArray[Any]] = []
        for out in self.groups:
            space = out.group.action
            if isinstance(space, Box):
                lead = len(box), out.agents
                if space.dtype in typed:
                    actions.append(typed[space.dtype][:, out.columns].reshape(*lead, *space.shape))
                else:
                    actions.append(np.rint(box[:, out.columns]).reshape(*lead, *space.shape).astype(space.dtype))
            else:
                values = choices[out.group.group_id]
                if isinstance(space, Discrete):
                    values = values + space.start
                actions.append(values.astype(space.dtype))
        return actions


def best_choices(space: Space, scores: NDArray[np.float64]) -> NDArray[Any]:
    """Return the discrete actions with the highest scores, counted from 0.

    Args:
        space: Discrete: the first of the highest scores. MultiDiscrete: the same for each choice. MultiBinary: 1 where
            a score is positive.
        scores: (..., width), a score for each value of each choice.

    Returns:
        (..., *action shape).
    """
    match space:
        case MultiDiscrete(nvec):
            ends = np.cumsum(nvec).tolist()
            return np.stack([scores[..., e - n : e].argmax(-1) for n, e in zip(nvec, ends, strict=True)], -1)
        case MultiBinary():
            return scores > 0
    best: NDArray[np.intp] = scores.argmax(-1)
    return best
