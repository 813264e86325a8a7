"""What all environments with PettingZoo's parallel interface have that were made from another one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

ByAgent = dict[str, Any]


class AdaptedEnv:
    """Base class of environments of another interface that behave as PettingZoo's parallel ones.

    Args:
        env: The environment that does the work.
        spaces: Observation and action space by agent, in the agents' order.
    """

    def __init__(self, env: Any, spaces: Mapping[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]) -> None:
        self.env = env
        self.possible_agents = list(spaces)
        self.agents: list[str] = []
        self.metadata: dict[str, Any] = getattr(env, "metadata", None) or {}
        self.render_mode: str | None = getattr(env, "render_mode", None)
        self._spaces = spaces

    @property
    def unwrapped(self) -> Any:
        """The environment that does the work, without wrappers."""
        return getattr(self.env, "unwrapped", self.env)

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the observation space of an agent."""
        return self._spaces[agent][0]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the action space of an agent."""
        return self._spaces[agent][1]

    def render(self) -> Any:
        """Return what the environment renders."""
        return self.env.render()

    def close(self) -> None:
        """Close the environment, if it can be closed."""
        with contextlib.suppress(AttributeError):
            self.env.close()

    def leave(self, terminated: Mapping[str, bool], truncated: Mapping[str, bool]) -> None:
        """Take the agents that have ended out of `agents`."""
        self.agents = [a for a in self.agents if not terminated.get(a) and not truncated.get(a)]


def idle_action(space: gymnasium.Space[Any]) -> Any:
    """An action for an agent that has ended, where the interface wants one of everybody: the first, or zeros."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.int64(space.start)
    if isinstance(space, gymnasium.spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    if isinstance(space, gymnasium.spaces.MultiDiscrete | gymnasium.spaces.MultiBinary):
        return np.zeros(space.shape, space.dtype) + np.asarray(getattr(space, "start", 0), space.dtype)
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(map(idle_action, space.spaces))
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: idle_action(inner) for key, inner in space.spaces.items()}
    return space.sample()
