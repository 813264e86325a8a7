"""An environment that only those solve who remember: a cue is seen first, and asked for some steps later."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv


class CueEnv(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Each agent sees a cue of its own at first, 1 or -1, then nothing; asked in the last step, it is to name the cue.

    Observations are (cue, asked). The right answer gets 1, the wrong one 0; whoever remembers nothing gets 1/2 on
    average.

    Args:
        delay: Env steps between the cue and the question.
        agents: How many agents of one group.
    """

    metadata = {"name": "cue", "is_parallelizable": True}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, delay: int = 3, agents: int = 2) -> None:
        self.delay = delay
        self.possible_agents = [f"agent_{i}" for i in range(agents)]
        self.agents: list[str] = []
        self._cue: dict[str, int] = {}
        self._step = 0
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents, self._step = list(self.possible_agents), 0
        self._cue = {agent: int(self._rng.integers(2)) for agent in self.agents}
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        asked = self._step == self.delay
        rewards = {agent: float(asked and int(actions[agent]) == self._cue[agent]) for agent in self.agents}
        self._step += 1
        over = dict.fromkeys(self.agents, asked)
        seen = self._seen()
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        nothing = dict.fromkeys(self.agents, False)
        if asked:
            self.agents = []
        return seen, rewards, over, nothing, infos

    def _seen(self) -> dict[str, NDArray[np.float32]]:
        cue = {agent: 2 * own - 1 if self._step == 0 else 0 for agent, own in self._cue.items()}
        return {agent: np.array([cue[agent], self._step == self.delay], np.float32) for agent in self.agents}

    def close(self) -> None:
        pass
