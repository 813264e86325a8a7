"""A game of two steps that nobody can tell apart by what agents see; the state of the environment says which it is.

The first agent's action decides: 0 gives the team 3 and ends the episode, 1 gives 2 and leads to a second step, where
nothing is to be had. Where steps look alike, the second one is taken for another first one: tried alike, action 1 is
valued v = 2 / 3 (2 + v) + 1 / 3 0 = 4, as if it could be done again and again, and action 0 at 2 / 3 3 = 2.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

BEST, SECOND = 3.0, 2.0


class HiddenStep(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Two agents see nothing; each gets half of the team's reward.

    Args:
        luck: What an episode's reward is more or less, with equal chances; only the state says which.
    """

    metadata: dict[str, Any] = {"name": "hidden_step"}  # noqa: RUF012 - PettingZoo's form
    render_mode = None

    def __init__(self, luck: float = 0.0) -> None:
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self._most, self._luck, self._steps = luck, 0.0, 0
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return gymnasium.spaces.Discrete(2)

    def state(self) -> NDArray[np.float32]:
        """Which step it is, as a one-hot vector, and the luck of the episode."""
        return np.array([self._steps == 0, self._steps == 1, self._luck], np.float32)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents, self._steps = list(self.possible_agents), 0
        self._luck = self._most * float(self._rng.choice([-1.0, 1.0]))
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        first = int(actions["agent_0"])
        over = self._steps == 1 or first == 0
        reward = 0.0 if self._steps == 1 else self._luck + (SECOND if first else BEST)
        self._steps += 1
        agents = self.agents
        infos: dict[str, Any] = {agent: {} for agent in agents}
        if over:
            self.agents = []
        everybody, nobody = dict.fromkeys(agents, over), dict.fromkeys(agents, False)
        return self._seen(), dict.fromkeys(agents, reward / 2), everybody, nobody, infos

    def _seen(self) -> dict[str, NDArray[np.float32]]:
        return {agent: np.ones(1, np.float32) for agent in self.possible_agents}
