"""Actions that are dictionaries and tuples of every kind of leaf, with masks, and a best action that is known."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

ARM = Dict(
    {
        "grip": MultiBinary(2),
        "move": Box(-2.0, 6.0, (1,), np.float32),
        "tool": Tuple((Discrete(3, start=5), MultiDiscrete([2, 3]))),
    }
)
LAST_TOOL = 2
"""Where the last tool lies in the mask, of 3 + 2 + 3 numbers."""


class Hybrid(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Two arms that earn a sixth for each component that is right, in episodes of four steps; 0 or 1 is seen.

    Right are the grip (1, 0), the move 2, the last tool that is legal, and (1, 2) of the choices. Where 1 is seen, the
    last tool is forbidden. What is no action of the space, or forbidden, raises.
    """

    metadata = {"name": "hybrid", "is_parallelizable": True}  # noqa: RUF012 - PettingZoo's form
    possible_agents = ["arm_0", "arm_1"]  # noqa: RUF012

    def __init__(self) -> None:
        self.agents: list[str] = []
        self._rng = np.random.default_rng(0)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return Dict({"observation": Box(0, 1, (1,), np.float32), "action_mask": MultiBinary(8)})

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return ARM

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents, self._left = list(self.possible_agents), 4
        return self._look(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        rewards = {a: self._earned(a, actions[a]) for a in self.agents}
        self._left -= 1
        over, agents, seen = self._left == 0, list(self.agents), self._look()
        if over:
            self.agents = []
        return seen, rewards, dict.fromkeys(agents, over), dict.fromkeys(agents, False), {a: {} for a in agents}

    def _look(self) -> dict[str, Any]:
        self._seen = {a: int(self._rng.integers(2)) for a in self.agents}
        return {a: {"observation": np.array([x], np.float32), "action_mask": _mask(x)} for a, x in self._seen.items()}

    def _earned(self, agent: str, action: Any) -> float:
        tool, choices = action["tool"]
        action = {**action, "tool": (np.int64(tool), choices)}
        if not ARM.contains(action):
            raise ValueError(f"{action} is no action")
        if not _mask(self._seen[agent])[int(tool) - 5]:
            raise ValueError(f"tool {tool} is forbidden")
        right = [*np.equal(action["grip"], [1, 0]), tool == 7 - self._seen[agent], *np.equal(choices, [1, 2])]
        return (sum(map(float, right)) + 1 - min(1.0, abs(float(action["move"][0]) - 2) / 4)) / 6


def _mask(seen: int) -> NDArray[np.int8]:
    mask = np.ones(8, np.int8)
    mask[LAST_TOOL] = not seen
    return mask
