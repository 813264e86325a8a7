"""Maps network outputs to actions: which outputs belong to which agent, and the bounds of its action space.

Dims: S slots, N agents of a group, W outputs of one agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.rows import MAX_SAMPLE_UNITS
from covey.spaces import (
    Box,
    Discrete,
    EnvironmentSpaces,
    Group,
    Leaf,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    action_bounds,
    choices,
    leaves,
)
from covey.spaces.components import first_values


@dataclass(frozen=True, slots=True)
class LeafOutputs:
    """Where the outputs for one leaf of the actions of a group's agents lie among the outputs of all.

    An action that is no dictionary and no tuple is its only leaf.

    Attributes:
        group: Index of the group.
        agents: The agents of the group, in the environment's order.
        leaf: The leaf.
        start: Where they begin: `width` outputs for each agent, one agent after the other.
        width: How many an agent's policy gives for the leaf.
        first: The first of them among all outputs of the agent's policy.
        numbers: How many the whole action has.
        masked: Which numbers of the agent's action mask are the leaf's; None where it has none.
        first_choice: How many choices the leaves before it have.
    """

    group: int
    agents: tuple[int, ...]
    leaf: Leaf
    start: int
    width: int
    first: int
    numbers: int
    masked: slice | None
    first_choice: int

    @property
    def columns(self) -> slice:
        """The leaf's columns among the outputs of all agents."""
        return slice(self.start, self.start + len(self.agents) * self.width)

    @property
    def outputs(self) -> slice:
        """The leaf's outputs among those of one agent's policy."""
        return slice(self.first, self.first + self.width)

    @property
    def log_stds(self) -> slice:
        """The log standard deviations of the leaf's numbers among the outputs of a squashed policy."""
        return slice(self.numbers + self.first, self.numbers + self.first + self.width)


class ActionLayout:
    """Places the outputs of all agents side by side: those for numbers of a Box first, then those for discrete actions.

    So squashing, noise and the mapping to bounds are each one operation on the first `box_width` columns.

    Args:
        spaces: Spaces of the environment.
        slots: Number of environments.

    Attributes:
        width: Outputs of all agents together.
        box_width: Outputs for numbers of a Box.
        leaves: Where the outputs of each leaf lie: groups in the spaces' order, within them leaf by leaf.
        choosing: The leaves with discrete actions, each with its index among all leaves.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self.slots = slots
        self._groups = spaces.groups
        unplaced = [out for i, group in enumerate(spaces.groups) for out in _leaf_outputs(i, group)]
        start = 0
        placed: dict[int, LeafOutputs] = {}
        for box in (True, False):
            for i, out in enumerate(unplaced):
                if isinstance(out.leaf.space, Box) == box:
                    placed[i] = replace(out, start=start)
                    start += len(out.agents) * out.width
            if box:
                self.box_width = start
        self.width = start
        self.leaves = tuple(placed[i] for i in range(len(unplaced)))
        self._dtypes = [group.action.dtype for group in spaces.groups]
        boxes = [(out, out.leaf.space) for out in self.leaves if isinstance(out.leaf.space, Box)]
        self._box_dtypes = {box.dtype for _, box in boxes if np.dtype(box.dtype).kind == "f"}
        self.choosing = tuple((i, out) for i, out in enumerate(self.leaves) if not isinstance(out.leaf.space, Box))
        choosers = [(i, out.leaf.space) for i, out in self.choosing]
        self._first = {i: first_values(own) for i, own in choosers if isinstance(own, Discrete | MultiDiscrete)}
        # [-1, 1] is mapped to [low, high] by middle + half * unit.
        low, high = np.empty(self.box_width), np.empty(self.box_width)
        for out, box_space in boxes:
            lo, hi = action_bounds(box_space)
            low[out.columns], high[out.columns] = np.tile(lo, len(out.agents)), np.tile(hi, len(out.agents))
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

    def split(self, box: NDArray[np.float64], chosen: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        """Split the joint actions of S environments into a fresh array per group, in its action space's dtype.

        N agents of a group.

        Args:
            box: (S, box_width), Box actions in the spaces' units.
            chosen: For each leaf with discrete actions, by its index, what `best_choices` gives.

        Returns:
            Per group (S, N, *action shape); with a field for each leaf where actions are dictionaries or tuples.
        """
        typed = {dtype: box.astype(dtype) for dtype in self._box_dtypes}
        actions: list[NDArray[Any]] = []
        for i, out in enumerate(self.leaves):
            space = out.leaf.space
            if isinstance(space, Box):
                own = typed.get(space.dtype)
                values = np.rint(box[:, out.columns]) if own is None else own[:, out.columns]
            else:
                values = chosen[i] + self._first[i] if i in self._first else chosen[i]
            values = values.reshape(len(box), len(out.agents), *space.shape)
            if not out.leaf.path:
                actions.append(values.astype(space.dtype, copy=False))
                continue
            if out.first == 0 and len(actions) == out.group:
                actions.append(np.empty((len(box), len(out.agents)), self._dtypes[out.group]))
            actions[out.group][out.leaf.name] = values
        return actions


def _leaf_outputs(index: int, group: Group) -> Iterator[LeafOutputs]:
    """Yield the leaves of a group's actions, without saying yet where their outputs begin."""
    first = masked = first_choice = 0
    for leaf in leaves(group.action):
        space = leaf.space
        is_choice = isinstance(space, Discrete | MultiDiscrete)
        where = slice(masked, masked + space.width) if is_choice else None
        yield LeafOutputs(index, group.agents, leaf, 0, space.width, first, group.action.width, where, first_choice)
        first += space.width
        masked += space.width if is_choice else 0
        first_choice += len(choices(space))


def best_choices(space: LeafSpace, scores: NDArray[np.float64]) -> NDArray[Any]:
    """Return the discrete actions with the highest scores, counted from 0.

    Args:
        space: Discrete: the first of the highest scores. MultiDiscrete: the same for each choice. MultiBinary: 1 where
            a score is positive.
        scores: (..., width), a score for each value of each choice.

    Returns:
        (..., number of choices).
    """
    if isinstance(space, MultiBinary):
        return scores > 0
    if isinstance(space, MultiDiscrete):
        ends = np.cumsum(space.nvec).tolist()
        return np.stack([scores[..., e - n : e].argmax(-1) for n, e in zip(space.nvec, ends, strict=True)], -1)
    best: NDArray[np.intp] = scores.argmax(-1)
    return best[..., None]
