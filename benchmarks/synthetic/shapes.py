"""An environment of so many agents that see arrays of a given shape, which costs nothing beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Shapes(ParallelEnv):  # type: ignore[misc,type-arg,unused-ignore]
    """Agents that see arrays of a given shape, floats for one axis and bytes for three, in episodes of 25 steps."""

    metadata: dict[str, Any] = {"name": "shapes"}  # noqa: RUF012

    def __init__(self, agents: int, shape: list[int]) -> None:
        self.possible_agents = [f"a_{i}" for i in range(agents)]
        images = len(shape) > 1
        seen = spaces.Box(0, 255, tuple(shape), np.uint8) if images else spaces.Box(-1, 1, tuple(shape), np.float32)
        self.observation_spaces = {a: seen for a in self.possible_agents}
        self.action_spaces = {a: spaces.Discrete(5) for a in self.possible_agents}
        self._seen = np.zeros(shape, seen.dtype)
        self._time = 0

    def observation_space(self, agent: str) -> Any:
        """Return the space of an agent's observations: an array of the given shape."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """Return the space of an agent's actions: five choices."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode."""
        self.agents, self._time = list(self.possible_agents), 0
        return {a: self._seen for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: Any) -> Any:
        """Make a step."""
        self._time += 1
        over = self._time == 25
        its = self.agents
        result = ({a: self._seen for a in its}, dict.fromkeys(its, 0.0), dict.fromkeys(its, False))
        rest: tuple[Any, ...] = (dict.fromkeys(its, over), {a: {} for a in its})
        self.agents = [] if over else its
        return *result, *rest


def parallel_env(agents: int, shape: list[int]) -> Shapes:
    """Make the environment."""
    return Shapes(agents, shape)
