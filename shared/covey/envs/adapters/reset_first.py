"""PettingZoo environments that know their agents, or the agents' spaces, only after their first reset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from covey.errors import EnvironmentLoadError, one_line


class ResetFirst:
    """A parallel or AEC environment that was reset once, so that its agents and their spaces are known.

    The agents of its first episode are its possible agents, if it does not name them itself. Spaces may also be in its
    attributes `observation_spaces` and `action_spaces` alone.

    Args:
        env: The environment, which has been reset.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents = list(getattr(env, "possible_agents", None) or env.agents)
        self._spaces = {a: (_space(env, "observation", a), _space(env, "action", a)) for a in self.possible_agents}

    def __getattr__(self, name: str) -> Any:
        """Delegate unknown attributes to the wrapped environment."""
        if name == "env":  # before it is set, as in a copy that is being made
            raise AttributeError(name)
        return getattr(self.env, name)

    def observation_space(self, agent: Any) -> gymnasium.Space[Any]:
        """Return the observation space of an agent."""
        return self._spaces[agent][0]  # type: ignore[no-any-return]

    def action_space(self, agent: Any) -> gymnasium.Space[Any]:
        """Return the action space of an agent."""
        return self._spaces[agent][1]  # type: ignore[no-any-return]


def knows_its_spaces(env: Any) -> bool:
    """Whether an environment says its agents and their spaces now; one that raises does not."""
    try:
        return all(env.observation_space(a) is not None and env.action_space(a) is not None for a in _agents(env))
    except Exception:
        return False


def reset_first(env: Any) -> Any:
    """The environment as `ResetFirst`, or as it is if a reset does not help: whoever reads its spaces says so.

    Raises:
        EnvironmentLoadError: the reset raised.
    """
    try:
        env.reset(seed=0)
    except Exception as exc:
        raise EnvironmentLoadError(
            f"environment {type(env).__name__}: it does not know its agents and their spaces before a reset, and reset "
            f"raised {type(exc).__name__}: {one_line(str(exc), 300)}; correct environment.config, or repair it"
        ) from exc
    try:
        return ResetFirst(env)
    except Exception:  # no agents or spaces even now, as is said where they are read
        return env


def _agents(env: Any) -> list[Any]:
    agents = list(env.possible_agents)
    if not agents:
        raise ValueError("no agents yet")
    return agents


def _space(env: Any, kind: str, agent: Any) -> Any:
    """An agent's space: by PettingZoo's method, or from the dictionary in which it lies."""
    method = getattr(env, f"{kind}_space", None)
    if callable(method):
        return method(agent)
    spaces = getattr(env, f"{kind}_spaces")
    return spaces[agent] if isinstance(spaces, Mapping) else spaces(agent)
