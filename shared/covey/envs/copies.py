"""Builds one copy of an environment among several, and calls its methods wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from covey.envs.named_agents import NamedAgents, with_names
from covey.envs.reading import declared_spaces
from covey.envs.turns import TurnsEnv
from covey.errors import SpaceError


@dataclass(frozen=True)
class Copy:
    """Builds a copy of an environment, after checking that its spaces equal those of the first copy.

    Attributes:
        build: Builds a parallel or an AEC environment.
        expected: Observation and action space of the first copy by agent.
    """

    build: Callable[[], Any]
    expected: Mapping[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]

    def __call__(self) -> Any:
        """Build a fresh copy, as an environment with PettingZoo's parallel interface.

        Raises:
            SpaceError: it has other agents or spaces than the first copy.
        """
        env = parallel(self.build())
        found = declared_spaces(env)
        if list(found) != list(self.expected):
            raise SpaceError(f"agents {list(found)}, expected {list(self.expected)} as in environment 0")
        for agent, spaces in found.items():
            if spaces != self.expected[agent]:
                raise SpaceError(f"agent {agent!r} has {spaces}, expected {self.expected[agent]} as in environment 0")
        return env


def parallel(env: Any) -> Any:
    """A parallel environment as it is; an AEC environment as a parallel one whose steps are turns; agents by name."""
    return with_names(TurnsEnv(env) if hasattr(env, "agent_iter") else env)


def call(env: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call the environment's method of that name and return the result; return an attribute that is no method."""
    attribute = get(env, name)
    return attribute(*args, **kwargs) if callable(attribute) else attribute


def get(env: Any, name: str) -> Any:
    """Return the environment's attribute of that name."""
    return getattr(_built(env), name)


def put(env: Any, name: str, value: Any) -> None:
    """Set an attribute of the environment."""
    setattr(_built(env), name, value)


def _built(env: Any) -> Any:
    """The environment as the user's function built it, inside of what covey puts around it."""
    if isinstance(env, NamedAgents):
        env = env.env
    return env.aec if isinstance(env, TurnsEnv) else env
