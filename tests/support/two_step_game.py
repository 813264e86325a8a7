"""The two-step game of the QMIX paper (Rashid et al., 2018, section 5): a sum of utilities cannot tell its best play.

In the first state agent_0 alone decides which of two payoff matrices is played in the second step:

    after 0:  7 7      after 1:  0 1
              7 7                1 8

The best is 1, and then both 1: 8. Where a team's value is a sum of utilities, it fits the second matrix badly, by
-1.5, 2.5, 2.5 and 6.5 where all actions are tried alike, and 7 looks better.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

PAYOFFS = {1: ((7.0, 7.0), (7.0, 7.0)), 2: ((0.0, 1.0), (1.0, 8.0))}


class TwoStepGame(ParallelEnv):  # type: ignore[misc,type-arg,unused-ignore]
    """Both agents see which of three states they are in; each gets half of the payoff."""

    metadata: dict[str, Any] = {"name": "two_step_game"}  # noqa: RUF012 - PettingZoo's form
    render_mode = None

    def __init__(self) -> None:
        self.possible_agents = ["agent_0", "agent_1"]
        self.agents: list[str] = []
        self._state = 0

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        """A one-hot vector of the state."""
        del agent
        return gymnasium.spaces.Box(0.0, 1.0, (3,), np.float32)

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        """Two choices."""
        del agent
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
        """Begin in the first state."""
        del seed, options
        self.agents, self._state = list(self.possible_agents), 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Choose a matrix, or play in it."""
        first, second = (int(actions[agent]) for agent in self.possible_agents)
        over = self._state > 0
        reward = PAYOFFS[self._state][first][second] / 2 if over else 0.0
        self._state = self._state if over else 1 + first
        agents = self.agents
        everybody = {agent: over for agent in agents}
        result = self._seen(), dict.fromkeys(agents, reward), everybody, dict.fromkeys(agents, False)
        if over:
            self.agents = []
        return (*result, {agent: {} for agent in agents})

    def _seen(self) -> dict[str, Any]:
        return {agent: np.eye(3, dtype=np.float32)[self._state] for agent in self.possible_agents}
