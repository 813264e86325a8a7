"""Whether an environment gives the same episode again when it is reset with the same seed and acted in alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from covey.envs.building import build_slots
from covey.envs.loading import MakeEnv
from covey.envs.random_actions import random_actions
from covey.envs.slots import Slots
from covey.spaces import EnvironmentSpaces

STEPS = 100
"""Most env steps that are compared."""


def ignored_seed(make_env: MakeEnv, spaces: EnvironmentSpaces, seed: int = 0) -> str:
    """Play an episode twice in one environment, with the same seed and actions.

    Args:
        make_env: Builds the environment.
        spaces: Of the environment.
        seed: Of the episode and of the actions.

    Returns:
        A sentence about the first thing that differed; empty if nothing did, or if the environment raised.
    """
    slots = build_slots(make_env, spaces, 1)
    try:
        first = list(_moments(slots, spaces, seed))
        for step, (before, now) in enumerate(zip(first, _moments(slots, spaces, seed), strict=False)):
            for what, value in now.items():
                if before[what] != value:
                    when = f"after {step} env steps" if step else "after reset"
                    return (
                        f"seeds: with the same seed and actions twice, the {what} differs {when}, so equal commands "
                        "give other results; draw from a generator that reset seeds"
                    )
    finally:
        slots.close()
    return ""


def _moments(slots: Slots, spaces: EnvironmentSpaces, seed: int) -> Iterator[dict[str, int]]:
    """Play an episode of slot 0; yields what it shows after reset and after each step, as hashes by what it is."""
    rng = np.random.default_rng(seed)
    if slots.reset([0], [seed]):
        return
    yield _shown(slots, spaces)
    for _ in range(STEPS):
        if not slots.arrays.living[0].any() or slots.step([0], random_actions(slots, spaces, rng)):
            return
        yield _shown(slots, spaces)


def _shown(slots: Slots, spaces: EnvironmentSpaces) -> dict[str, int]:
    """What slot 0 shows, as hashes: the arrays themselves may be images, of a hundred steps."""
    arrays = slots.arrays
    shown: dict[str, int] = {}
    column = 0
    for g, group in enumerate(spaces.groups):
        mask = arrays.mask[g]
        for n, agent in enumerate(group.agents):
            name = spaces.agents[agent].agent_id
            flags = arrays.terminated, arrays.truncated, arrays.present, arrays.living
            shown[f"observation of agent {name!r}"] = hash(arrays.observation[g][0, n].tobytes())
            shown[f"mask of agent {name!r}"] = 0 if mask is None else hash(mask[0, n].tobytes())
            shown[f"reward of agent {name!r}"] = hash(arrays.reward[0, column].tobytes())
            shown[f"presence of agent {name!r}"] = hash(tuple(int(flag[0, column]) for flag in flags))
            column += 1
    return shown
