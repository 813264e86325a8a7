"""A game of two agents that see pixels: a ball falls, and one of their two paddles is to be under it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

PADDLE = 3
"""Cells that a paddle is wide."""

BALL, OWN, OTHER = 255, 170, 85
"""Brightness of what an agent sees."""


class Catching(ParallelEnv):  # type: ignore[misc]
    """Two paddles at the bottom move by a cell a step; at the end both agents get 1 if one is under the ball, else -1.

    Args:
        cells: Rows and columns of the game.
        pixels: Rows and columns of a cell in the image.
        channels: 1: everything in one channel, by its brightness; 3: a channel each for ball, own and other paddle.
        channels_first: Whether images are (channels, height, width).
        features: Whether observations are dictionaries of the image and the own paddle's place, a number.
    """

    metadata = {"name": "catching", "render_modes": []}  # noqa: RUF012 - as PettingZoo declares it
    render_mode = None

    def __init__(
        self,
        cells: int = 10,
        pixels: int = 1,
        channels: int = 3,
        *,
        channels_first: bool = False,
        features: bool = False,
    ) -> None:
        self._cells, self._pixels, self._channels = cells, pixels, channels
        self._first, self._features = channels_first, features
        self.possible_agents = ["catcher_0", "catcher_1"]
        self.agents: list[str] = []
        side = cells * pixels
        shape = (channels, side, side) if channels_first else (side, side, channels)
        self._image = spaces.Box(0, 255, shape, np.uint8)

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Return the observation space of an agent: the screen, in a dictionary with its place if `features` is set."""
        del agent
        if not self._features:
            return self._image
        return spaces.Dict({"image": self._image, "place": spaces.Box(0, 1, (1,), np.float32)})

    def action_space(self, agent: str) -> spaces.Discrete:
        """Left, stay, right."""
        del agent
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin a game."""
        del options
        if seed is not None or not hasattr(self, "_draw"):
            self._draw = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._row = 0
        self._column = int(self._draw.integers(self._cells))
        self._paddles = self._draw.integers(self._cells - PADDLE + 1, size=2)
        return self._seen(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        """Move paddles, then the ball."""
        moves = np.array([int(actions[a]) - 1 for a in self.possible_agents])
        self._paddles = np.clip(self._paddles + moves, 0, self._cells - PADDLE)
        self._row += 1
        over = self._row == self._cells - 1
        caught = bool(np.any((self._paddles <= self._column) & (self._column < self._paddles + PADDLE)))
        reward = (1.0 if caught else -1.0) if over else 0.0
        agents, seen = self.agents, self._seen()
        if over:
            self.agents = []
        return (
            seen,
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, False),
            {a: {} for a in agents},
        )

    def close(self) -> None:
        """Nothing to close."""

    def _seen(self) -> dict[str, Any]:
        return {agent: self._seen_by(i) for i, agent in enumerate(self.possible_agents)}

    def _seen_by(self, i: int) -> Any:
        planes = np.zeros((3, self._cells, self._cells), np.uint8)
        planes[2, -1, self._paddles[1 - i] :][:PADDLE] = OTHER
        planes[1, -1, self._paddles[i] :][:PADDLE] = OWN
        planes[0, self._row, self._column] = BALL
        shown = planes if self._channels == 3 else planes.max(0, keepdims=True)
        image = shown.repeat(self._pixels, 1).repeat(self._pixels, 2)
        image = image if self._first else np.ascontiguousarray(image.transpose(1, 2, 0))
        if not self._features:
            return image
        return {"image": image, "place": np.array([self._paddles[i] / self._cells], np.float32)}


def catching(**arguments: Any) -> Catching:
    """Make the game, for configurations that name an environment."""
    return Catching(**arguments)
