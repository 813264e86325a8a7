"""Environments of the package marlenv (overcooked, laser-learning-environment), as PettingZoo's parallel ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from covey.envs.adapters.adapted import AdaptedEnv, ByAgent
from covey.envs.adapters.adapter import derives_from
from covey.errors import EnvironmentLoadError
from covey.spaces import MASK_KEY


class MARLEnvAgents(AdaptedEnv):
    """A MARLEnv as a parallel environment: all agents get the team's reward, and end together.

    An observation with extras is one flat array, the extras last. Actions that are not available are masked.

    Args:
        env: The environment, or a builder of one, as `lle:level` gives it.
    """

    def __init__(self, env: Any) -> None:
        env = env.build() if _is_builder(env) else env
        self._extras = env.extras_size
        self._flat = self._extras > 0
        shape = (env.observation_size + self._extras,) if self._flat else tuple(env.observation_shape)
        observation = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        self._masked = bool(env.action_space.is_discrete)
        if env.reward_space.size > 1:
            raise EnvironmentLoadError(
                f"environment: {env.name} has {env.reward_space.size} objectives, expected one; build it with one "
                "reward, such as the weighted sum of several"
            )
        actions = [_action_space(env.action_space, i) for i in range(env.n_agents)]
        super().__init__(env, {f"agent_{i}": (observation, action) for i, action in enumerate(actions)})

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ByAgent, ByAgent]:
        """Begin an episode; returns observations and infos by agent."""
        if seed is not None:
            self.env.seed(seed)
        seen, _ = self.env.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self._seen(seen), self._infos(seen)

    def step(self, actions: Mapping[str, Any]) -> tuple[ByAgent, ByAgent, ByAgent, ByAgent, ByAgent]:
        """Make an env step; returns observations, rewards, terminations, truncations and infos by agent."""
        step = self.env.step(np.array([actions[a] for a in self.agents]))
        ended, cut = (dict.fromkeys(self.agents, bool(flag)) for flag in (step.done, step.truncated))
        rewards = dict.fromkeys(self.agents, float(np.sum(step.reward)))
        result = self._seen(step.obs), rewards, ended, cut, self._infos(step.obs)
        self.leave(ended, cut)
        return result

    def render(self) -> NDArray[np.uint8]:
        """Return a picture of the environment."""
        return self.env.get_image()  # type: ignore[no-any-return]

    def _seen(self, seen: Any) -> ByAgent:
        """Observations by agent, as covey's own copies: some environments write into one array all the time."""
        data = np.array(seen.data, np.float32)
        if self._flat:
            rows = data.reshape(len(data), -1)
            data = np.concatenate([rows, np.reshape(seen.extras, (len(data), -1))], axis=1, dtype=np.float32)
        return dict(zip(self.agents, data, strict=True))

    def _infos(self, seen: Any) -> ByAgent:
        if not self._masked:
            return {a: {} for a in self.agents}
        return {a: {MASK_KEY: mask} for a, mask in zip(self.agents, np.array(seen.available_actions), strict=True)}


def recognise_marlenv(env: Any) -> str:
    """Whether an object is a MARLEnv, or builds one; in words."""
    return "a MARLEnv" if derives_from(env, "marlenv", "MARLEnv") or _is_builder(env) else ""


def _is_builder(env: Any) -> bool:
    return derives_from(env, "lle", "Builder")


def _action_space(space: Any, agent: int) -> gymnasium.Space[Any]:
    """An agent's action space, of that of all agents together."""
    if space.is_discrete:
        sizes = [inner.size for inner in space.spaces]
        return gymnasium.spaces.Discrete(int(sizes[agent]))
    return gymnasium.spaces.Box(np.asarray(space.low[agent]), np.asarray(space.high[agent]), dtype=np.float32)
