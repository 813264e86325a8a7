"""What simple_tag and simple_world_comm share: adversaries chase good agents, which are faster, within bounds.

Dims: S copies, V adversaries, G good agents, A = V + G agents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covey.envs.mpe.world import Body, Floats, World, length, relative


def chasers(adversaries: int, good: int, good_size: float, good_speed: float = 1.0) -> list[Body]:
    """The agents, adversaries first; good ones are `good_speed` times as fast as they usually are."""
    chaser = Body(0.075, collides=True, moves=True, acceleration=3.0, max_speed=1.0)
    chased = Body(good_size, collides=True, moves=True, acceleration=4.0 * good_speed, max_speed=1.3 * good_speed)
    return [chaser] * adversaries + [chased] * good


def place_within(drawn: Floats, agents: int) -> Floats:
    """Where bodies are at first (E, 2, S), from numbers in [0, 1): agents anywhere, landmarks not at the edge."""
    position = drawn * 2.0 - 1.0
    position[agents:] = drawn[agents:] * 1.8 - 0.9
    return position


def touching(world: World, position: Floats, some: slice, others: slice) -> NDArray[np.bool_]:
    """Return which of N bodies touch which of M others: (M, N, S)."""
    reach = world.size[some] + world.size[others][:, None]  # (M, N, 1)
    return np.less(length(relative(position[some], position[others])), reach)  # type: ignore[no-any-return]


def beyond_bounds(position: Floats) -> Floats:
    """How much each coordinate is out of bounds: nothing up to 0.9, then more and more, up to 10."""
    x = np.abs(position)
    near = np.maximum((x - 0.9) * 10, 0.0)
    return np.where(x < 1.0, near, np.minimum(np.exp(2 * x - 2), 10.0))
