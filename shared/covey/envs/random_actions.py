"""Draws random legal actions, with which environments are tried out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.slots import Slots
from covey.rows import Active
from covey.spaces import (
    Box,
    Discrete,
    EnvironmentSpaces,
    LeafSpace,
    MultiDiscrete,
    Space,
    action_bounds,
    choices,
    leaf_arrays,
    leaves,
)


def random_action(space: Space, rng: np.random.Generator, mask: NDArray[np.uint8] | None = None) -> NDArray[Any]:
    """Draw a legal action uniformly, in the shape and dtype of its space.

    Args:
        space: The action space; numbers of a Box without bounds are drawn within `action_bounds`.
        rng: Draws it.
        mask: (mask width,), not 0 for legal values, at least one of each choice; None: all values are legal.
    """
    drawn = np.zeros(space.shape, space.dtype)
    at = 0
    for leaf, target in zip(leaves(space), leaf_arrays(space, drawn), strict=True):
        width = leaf.space.width if isinstance(leaf.space, Discrete | MultiDiscrete) else 0
        legal = None if mask is None or not width else mask[at : at + width]
        target[...] = _random_leaf(leaf.space, rng, legal)
        at += width
    return drawn


def _random_leaf(space: LeafSpace, rng: np.random.Generator, mask: NDArray[np.uint8] | None) -> NDArray[Any]:
    """Draw a value of a space that is no tree."""
    if isinstance(space, Box):
        low, high = action_bounds(space)
        drawn = rng.uniform(low, high).reshape(space.shape)
        if np.dtype(space.dtype).kind != "f":
            drawn = np.rint(drawn)
        return drawn.astype(space.dtype)
    values = choices(space)
    legal = np.ones(sum(values), bool) if mask is None else np.asarray(mask, bool)
    bounds = pairwise(np.cumsum([0, *values]).tolist())
    picked = np.array([rng.choice(np.flatnonzero(legal[first:end])) for first, end in bounds])
    return _counted_from_start(picked, space)


def unmasked_actions(space: Space, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Draw as many legal actions as `shape` says at once, (*shape, *action shape), which takes hardly any time."""
    drawn = np.zeros((*shape, *space.shape), space.dtype)
    for leaf, target in zip(leaves(space), leaf_arrays(space, drawn), strict=True):
        target[...] = _unmasked_leaf(leaf.space, rng, shape)
    return drawn


def _unmasked_leaf(space: LeafSpace, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Draw values of a space that is no tree."""
    if isinstance(space, Box):
        low, high = action_bounds(space)
        drawn = rng.uniform(low, high, (*shape, space.width)).reshape(*shape, *space.shape)
        return (drawn if np.dtype(space.dtype).kind == "f" else np.rint(drawn)).astype(space.dtype)
    picked = rng.integers(choices(space), size=(*shape, len(choices(space))))
    return _counted_from_start(picked, space)


def _counted_from_start(picked: NDArray[Any], space: LeafSpace) -> NDArray[Any]:
    """Values (..., number of choices) that count from 0, as those of the space, (..., *shape)."""
    first = np.asarray(space.start if isinstance(space, Discrete | MultiDiscrete) else 0)
    values: NDArray[Any] = (picked + first).reshape((*picked.shape[:-1], *space.shape)).astype(space.dtype)
    return values


def random_actions(
    slots: Slots, spaces: EnvironmentSpaces, rng: np.random.Generator, moving: Sequence[int] = (0,)
) -> list[NDArray[Any]]:
    """Random legal actions for the agents of the moving slots that choose, zeros for all others.

    Returns:
        Per group (S, N, *shape).
    """
    arrays = slots.arrays
    chosen = []
    p = 0
    for g, group in enumerate(spaces.groups):
        actions = np.zeros((slots.count, len(group), *group.action.shape), group.action.dtype)
        mask = arrays.mask[g]
        for n in range(len(group)):
            for s in moving:
                if arrays.present[s, p] == Active.CHOSE:
                    actions[s, n] = random_action(group.action, rng, None if mask is None else mask[s, n])
            p += 1
        chosen.append(actions)
    return chosen
