"""A task whose observations are of very different sizes: what matters is small, what does not is large."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from tests.support.probes.environment import Step

STEPS = 8
SMALL, LARGE, FAR = 1e-3, 1e3, 3e3


class Scaled(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Two agents see a sign, -0.001 or 0.001, among numbers of thousands; to do what it says is worth 1 a step.

    The best return of an agent is 8, of chance 4.

    Args:
        kind: "Discrete": two choices; "Box": one number, whose sign counts.
    """

    metadata = {"name": "scaled", "is_parallelizable": True}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, kind: str = "Discrete", render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.possible_agents = ["scout_0", "scout_1"]
        self.agents: list[str] = []
        self._kind = kind
        self._rng = np.random.default_rng()
        self._signs: dict[str, float] = {}
        self._steps = 0

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        return gymnasium.spaces.Box(-1, 1, (1,), np.float32) if self._kind == "Box" else gymnasium.spaces.Discrete(2)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents, self._steps = list(self.possible_agents), 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Step:
        done = {a: float(np.asarray(x).ravel()[0]) > (0 if self._kind == "Box" else 0.5) for a, x in actions.items()}
        reward = {a: float(done[a] == (self._signs[a] > 0)) for a in self.agents}
        self._steps += 1
        over = {a: self._steps == STEPS for a in self.agents}
        result: Step = self._seen(), reward, over, dict.fromkeys(self.agents, False), {a: {} for a in self.agents}
        if self._steps == STEPS:
            self.agents = []
        return result

    def _seen(self) -> dict[str, NDArray[np.float32]]:
        self._signs = {a: float(self._rng.choice([-1.0, 1.0])) for a in self.possible_agents}
        return {
            a: np.array([SMALL * sign, *(FAR + LARGE * self._rng.normal(size=2))], np.float32)
            for a, sign in self._signs.items()
        }
