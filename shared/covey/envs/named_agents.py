"""Environments whose agents' ids are no texts (0, 1, 2), as ones whose agents have names ("0", "1", "2")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium


class NamedAgents:
    """A parallel environment under whose agents' names its own ids stand; it gets and gives its own ids inside.

    PettingZoo allows any ids; on the wire, in files and in configurations an agent has a name, the text of its id.

    Args:
        env: A parallel environment.

    Attributes:
        env: The same.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents = [str(agent) for agent in env.possible_agents]
        self._ids = dict(zip(self.possible_agents, env.possible_agents, strict=True))

    def __getattr__(self, name: str) -> Any:
        """Delegate unknown attributes to the wrapped environment."""
        return getattr(self.env, name)

    @property
    def agents(self) -> list[str]:
        """Names of the agents that are in the episode."""
        return [str(agent) for agent in self.env.agents]

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Observation space of an agent, by its name."""
        return self.env.observation_space(self._ids[agent])  # type: ignore[no-any-return]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Action space of an agent, by its name."""
        return self.env.action_space(self._ids[agent])  # type: ignore[no-any-return]

    def reset(self, **arguments: Any) -> Any:
        """Begin an episode; returns what the environment does, with names in place of ids."""
        return _named(self.env.reset(**arguments))

    def step(self, actions: Mapping[str, Any]) -> Any:
        """Make an env step with actions by name; returns what the environment does, with names in place of ids."""
        return _named(self.env.step({self._ids[name]: action for name, action in actions.items()}))


def with_names(env: Any) -> Any:
    """The environment itself if all its agents' ids are texts, otherwise as `NamedAgents`."""
    try:
        ids = list(env.possible_agents)
    except Exception:  # whoever reads its spaces says what is wrong with them
        return env
    return env if all(isinstance(agent, str) for agent in ids) else NamedAgents(env)


def _named(returned: Any) -> Any:
    """Dictionaries by agent with names in place of ids; anything else as it is, for those who check what came."""
    if not isinstance(returned, tuple):
        return returned
    return tuple({str(a): v for a, v in part.items()} if isinstance(part, Mapping) else part for part in returned)
