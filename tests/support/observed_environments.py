"""Environments that show much, or what is outside of their own spaces: `tests.support.observed_environments:NAME`."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from tests.support.written_environments import Plain

F = np.float32


class Pong(Plain):
    """The shapes of two paddles' images in pettingzoo.butterfly.cooperative_pong, with a ball that moves."""

    names = ("paddle_0", "paddle_1")
    seen = spaces.Box(0, 255, (280, 480, 3), np.uint8)

    def observation(self, agent: Any) -> Any:
        image = np.zeros((280, 480, 3), np.uint8)
        image[20 * self.time : 20 * self.time + 10, 100 + 10 * self.time] = 255
        return image


class Crowd(Plain):
    """As many agents that see as many numbers as one likes."""

    def __init__(self, agents: int = 2, width: int = 3) -> None:
        self.names = [f"a_{i}" for i in range(agents)]
        self.width = width
        self.seen = spaces.Box(-1, 1, (width,), F)
        super().__init__()

    def observation(self, agent: Any) -> Any:
        return np.zeros(self.width, F)


class Outside(Plain):
    """Its second agent sees 12, -15, 18 ... where its space allows no more than 10, and rounding on top of a bound."""

    def observation(self, agent: Any) -> Any:
        time = 3 * self.time * (-1) ** self.time if agent == "a_1" else 0
        return np.array([time, 10 + 1e-6, 0], F)


class TooLarge(Plain):
    """Rewards that are finite, but too large to learn from."""

    def reward(self, agent: Any) -> Any:
        return 1e13 if self.time == 3 else 1.0


class TooLargeToSee(Plain):
    """Observations that are finite, but not in the float32 in which networks read them."""

    seen = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def observation(self, agent: Any) -> Any:
        return np.array([self.time, 1e300 if self.time == 3 else 0, 0])
