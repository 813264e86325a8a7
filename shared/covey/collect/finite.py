"""Finds NaN and infinities in observations and rewards: they would spoil whatever learns from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covey.envs.arrays import SlotArrays
from covey.spaces import EnvironmentSpaces


def not_finite(arrays: SlotArrays, slots: Sequence[int], spaces: EnvironmentSpaces) -> dict[int, tuple[int, str]]:
    """Find which environments showed an observation or a reward that is NaN or infinite, and when first.

    Args:
        arrays: What the environments showed, with a leading axis of time.
        slots: Which to look at.
        spaces: Spaces of the environments.

    Returns:
        By slot: the first time at which it shows one, and one line about it.
    """
    rewards = np.moveaxis(arrays.reward, -1, 0)
    observations = [o for o in arrays.observation if o.dtype.kind == "f"]
    # Nearly always all numbers are finite, and then so are their sums; a sum that overflows is looked into below.
    with np.errstate(over="ignore", invalid="ignore"):
        if all(np.isfinite(a.sum()) for a in (*observations, rewards)):
            return {}
    found: dict[int, tuple[int, str]] = {}
    column = 0
    for group, observation in zip(spaces.groups, arrays.observation, strict=True):
        for n, agent in enumerate(group.agents):
            for what, values in (("observation", observation[:, :, n]), ("reward", rewards[column])):
                if values.dtype.kind != "f":
                    continue
                for s in slots:
                    bad = ~np.isfinite(values[:, s].reshape(len(values), -1))
                    if bad.any():
                        time = int(bad.any(axis=1).argmax())
                        value = values[time, s].reshape(-1)[bad[time]][0]
                        text = f"{what} of agent {spaces.agents[agent].agent_id!r} is {value}, expected a finite number"
                        found[s] = min(found.get(s, (time, text)), (time, text))
            column += 1
    return found
