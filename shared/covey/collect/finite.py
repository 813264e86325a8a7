"""Finds NaN, infinities and numbers too large to learn from in observations and rewards: they spoil whatever learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.rows import MAX_FLOAT32, is_number
from covey.spaces import EnvironmentSpaces, leaf_arrays, leaves
from covey.wire.limits import MAX_REWARD


def not_finite(arrays: SlotArrays, slots: Sequence[int], spaces: EnvironmentSpaces) -> dict[int, tuple[int, str]]:
    """Find which environments showed an observation or a reward that nothing can learn from, and when first.

    Args:
        arrays: What the environments showed, with a leading axis of time.
        slots: Which to look at.
        spaces: Spaces of the environments.

    Returns:
        By slot: the first time at which it shows one, and one line about it.
    """
    rewards = np.moveaxis(arrays.reward, -1, 0)
    observations = [
        leaf
        for group, observation in zip(spaces.groups, arrays.observation, strict=True)
        for leaf in leaf_arrays(group.observation, observation)
        if leaf.dtype.kind == "f"
    ]
    if arrays.state is not None and arrays.state.dtype.kind == "f":
        observations.append(arrays.state)
    # Nearly always all numbers are finite, and then so are their sums; a sum that overflows is looked into below.
    with np.errstate(over="ignore", invalid="ignore"):
        if all(map(_all_numbers, observations)) and _within(rewards, MAX_REWARD):
            return {}
    found: dict[int, tuple[int, str]] = {}
    if arrays.state is not None and arrays.state.dtype.kind == "f":
        for s in slots:
            bad = ~is_number(arrays.state[:, s].reshape(len(arrays.state), -1), MAX_FLOAT32).all(axis=1)
            if bad.any():
                found[s] = (int(bad.argmax()), "state() has a number that is not finite, or too large for float32")
    column = 0
    for group, observation in zip(spaces.groups, arrays.observation, strict=True):
        for n, agent in enumerate(group.agents):
            seen = zip(leaves(group.observation), leaf_arrays(group.observation, observation[:, :, n]), strict=True)
            for what, values, most in (
                *((f"observation{' ' * bool(leaf.name)}{leaf.name}", values, MAX_FLOAT32) for leaf, values in seen),
                ("reward", rewards[column], MAX_REWARD),
            ):
                if values.dtype.kind != "f":
                    continue
                for s in slots:
                    bad = ~is_number(values[:, s].reshape(len(values), -1), most)
                    if bad.any():
                        time = int(bad.any(axis=1).argmax())
                        value = values[time, s].reshape(-1)[bad[time]][0]
                        expected = f"at most {most:.3g} either way" if np.isfinite(value) else "a finite number"
                        text = f"{what} of agent {spaces.agents[agent].agent_id!r} is {value}, expected {expected}"
                        found[s] = min(found.get(s, (time, text)), (time, text))
            column += 1
    return found


def _all_numbers(values: NDArray[Any]) -> bool:
    """Whether all values can be learned from, in one quick pass where float32 holds whatever they can be."""
    if values.dtype == np.float64:
        return _within(values, MAX_FLOAT32)
    return bool(np.isfinite(values.sum()))


def _within(values: NDArray[Any], most: float) -> bool:
    """Whether all values are numbers, at most so large either way."""
    return not values.size or bool(values.min() >= -most and values.max() <= most)  # false for NaN
