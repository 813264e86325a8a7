"""A game whose images show where a point is, but not where it goes: that takes two of them.

A point moves to the left or to the right, one pixel in an env step, on a row that goes on at the other end. An agent
gets 1 for naming the direction, and nothing else. One image says nothing about it; two in a row say it all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv

SIZE = 8
LENGTH = 8


class Moving(ParallelEnv[str, Any, int]):  # type: ignore[misc]
    """Two agents, each with a point of its own.

    Args:
        shape: "hw", "hwc" (2 channels, the second empty) or "chw"; "tree" for a dictionary of an image, the agent's
            number and a vector.
        length: Env steps of an episode.
        early: Agent 0 ends after so many env steps; 0: with the episode.
        waits: Agent 1 observes in every second env step alone.
        raises: The env step in which episodes of odd seeds raise; 0: never.
    """

    metadata: dict[str, Any] = {"name": "moving", "render_modes": ["rgb_array"]}  # noqa: RUF012 - PettingZoo's form

    def __init__(
        self,
        shape: str = "hw",
        length: int = LENGTH,
        early: int = 0,
        waits: bool = False,
        raises: int = 0,
        render_mode: str | None = None,
    ) -> None:
        self.possible_agents = ["watcher_0", "watcher_1"]
        self.render_mode = render_mode
        self._shape, self._length, self._early, self._waits, self._raises = shape, length, early, waits, raises

    def observation_space(self, agent: str) -> Any:
        del agent
        form = {"hwc": (SIZE, SIZE, 2), "chw": (2, SIZE, SIZE)}.get(self._shape, (SIZE, SIZE))
        image = Box(0, 255, form, np.uint8)
        if self._shape != "tree":
            return image
        return Dict({"image": image, "number": Discrete(3, start=1), "time": Box(-1, 1, (2,), np.float32)})

    def action_space(self, agent: str) -> Any:
        del agent
        return Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        del options
        rng = np.random.default_rng(seed)
        self._odd = bool(seed and seed % 2)
        self._place, self._way = rng.integers(SIZE, size=2), 2 * rng.integers(2, size=2) - 1
        self._row = rng.integers(SIZE, size=2)
        self._time, self.agents = 0, list(self.possible_agents)
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> Any:
        named = {
            a: int(np.sign(self._way[i]) == 2 * int(actions[a]) - 1) if a in actions else 0 for i, a in self._all()
        }
        self._place = (self._place + self._way) % SIZE
        self._time += 1
        if self._odd and self._time == self._raises:
            raise RuntimeError("the point is lost")
        over = self._time >= self._length
        ended = {a: over or (i == 0 and self._time == self._early) for i, a in self._all()}
        seen, acted = self._seen(), list(self.agents)
        self.agents = [a for a in self.agents if not ended[a]]
        no = dict.fromkeys(acted, False)
        return (
            {a: seen[a] for a in acted if a in seen},
            {a: float(named[a]) for a in acted},
            {a: ended[a] and not over for a in acted},
            {a: over for a in acted} if over else no,
            {a: {} for a in acted},
        )

    def render(self) -> Any:
        return np.zeros((SIZE, SIZE, 3), np.uint8)

    def _all(self) -> list[tuple[int, str]]:
        return list(enumerate(self.possible_agents))

    def _seen(self) -> dict[str, Any]:
        return {
            a: self._image(i) for i, a in self._all() if a in self.agents and not (self._waits and i and self._time % 2)
        }

    def _image(self, i: int) -> Any:
        image = np.zeros((SIZE, SIZE), np.uint8)
        image[self._row[i], self._place[i]] = 255
        if self._shape == "hwc":
            return np.stack([image, np.zeros_like(image)], -1)
        if self._shape == "chw":
            return np.stack([image, np.zeros_like(image)])
        if self._shape == "tree":
            time = np.array([self._time / self._length, -1], np.float32)
            return {"image": image, "number": 1 + self._time % 3, "time": time}
        return image


def moving(**arguments: Any) -> Moving:
    """The game, for configurations."""
    return Moving(**arguments)
