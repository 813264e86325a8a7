"""Environments with known values whose agents act at different times.

Configurations name them `tests.support.probes.asynchronous:<function>`. What is seen and done are numbers from 0 to 1,
as in `tests.support.probes.simultaneous`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from pettingzoo import AECEnv, ParallelEnv
from tests.support.probes.environment import OBSERVATION, Numbers, Step, place, space_of
from tests.support.probes.simultaneous import AGENTS, closeness

from covey.spaces import from_gymnasium

PERIODS = {"agent_0": 2, "other_agent_0": 3}
LENGTH = 12
DEATH = 4
PLAYERS = ("player_0", "player_1")


class Rhythms(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """The agent acts in every second step, the other one in every third; what they do is paid in every step.

    The agent sees 0, is to do 1, and is cut off after step `LENGTH`. The other one sees 0 and then 1, and is to do the
    opposite; it ends after step `DEATH`, one step after its second action.
    """

    metadata = {"name": "rhythms", "is_parallelizable": True}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, kind: str) -> None:
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self._action = space_of(kind)
        self._space = from_gymnasium(self._action, "action")
        self._done: Numbers = {}
        self._steps = 0

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return OBSERVATION

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return self._action

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        del seed, options
        self.agents, self._steps = list(self.possible_agents), 0
        return {a: self._sees(a) for a in AGENTS}, {a: {} for a in AGENTS}

    def step(self, actions: dict[str, Any]) -> Step:
        lived = self.agents
        assert set(actions) == {a for a in lived if self._steps % PERIODS[a] == 0}
        self._done |= {a: place(self._space, action) for a, action in actions.items()}
        wanted = {"agent_0": 1.0, "other_agent_0": 1.0 if self._steps < PERIODS["other_agent_0"] else 0.0}
        rewards = {a: closeness(self._done[a], wanted[a]) for a in lived}
        self._steps += 1
        ended = ["other_agent_0"] if self._steps == DEATH else []
        cut = ["agent_0"] if self._steps == LENGTH else []
        self.agents = [a for a in lived if a not in ended + cut]
        acting = [a for a in self.agents if self._steps % PERIODS[a] == 0]
        return (
            {a: self._sees(a) for a in acting + ended + cut},
            rewards,
            {a: a in ended for a in lived},
            {a: a in cut for a in lived},
            {a: {} for a in acting},
        )

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to close."""

    def _sees(self, agent: str) -> np.ndarray:
        return np.array([agent == "other_agent_0" and self._steps > 0], np.float32)


class Turns(AECEnv[str, Any, Any]):  # type: ignore[misc]
    """Two players take two turns each; whose turn it is is paid for what it does, and the other one gets 0.5.

    In turns 0 to 3 the players see 0, 0.25, 0.75 and 1; what is less than a half wants a 1, what is more a 0.
    """

    metadata = {"name": "turns", "is_parallelizable": False}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.possible_agents = list(PLAYERS)
        self._action = space_of(kind)
        self._space = from_gymnasium(self._action, "action")

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return OBSERVATION

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        del agent
        return self._action

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        del seed, options
        self.agents = list(PLAYERS)
        self._turn = 0
        self.agent_selection = PLAYERS[0]
        self.rewards = dict.fromkeys(PLAYERS, 0.0)
        self._cumulative_rewards = dict.fromkeys(PLAYERS, 0.0)
        self.terminations = dict.fromkeys(PLAYERS, False)
        self.truncations = dict.fromkeys(PLAYERS, False)
        self.infos: dict[str, dict[str, Any]] = {a: {} for a in PLAYERS}

    def observe(self, agent: str) -> np.ndarray:
        del agent
        return np.array([self._seen()], np.float32)

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        wanted = float(self._seen() < 0.5)
        self.rewards = dict.fromkeys(PLAYERS, 0.5) | {agent: closeness(place(self._space, action), wanted)}
        self._turn += 1
        self.terminations = dict.fromkeys(PLAYERS, self._turn == 4)
        self.agent_selection = PLAYERS[self._turn % 2]
        self._accumulate_rewards()

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to close."""

    def _seen(self) -> float:
        return (0.0, 0.25, 0.75, 1.0, 1.0)[self._turn]


def rhythms(kind: str) -> Rhythms:
    """Agents with rhythms of their own."""
    return Rhythms(kind)


def turns(kind: str) -> Turns:
    """Players that take turns."""
    return Turns(kind)
