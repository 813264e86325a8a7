"""One environment among several copies, where it lives: building it, and reaching into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from covey.envs.reading import declared_spaces
from covey.envs.turns import TurnsEnv
from covey.errors import SpaceError


@dataclass(frozen=True)
class Copy:
    """Builds an environment, and holds it to the spaces of the first.

    Attributes:
        build: Gives a parallel or an AEC environment.
        expected: Observation and action space by agent.
    """

    build: Callable[[], Any]
    expected: Mapping[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]]

    def __call__(self) -> Any:
        """A parallel environment.

        Raises:
            SpaceError: it has other agents or spaces.
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
    """What was built, with turns made steps if it is an AEC environment."""
    return TurnsEnv(env) if hasattr(env, "agent_iter") else env


def call(env: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a method of the environment gives, or its attribute if it is none."""
    attribute = get(env, name)
    return attribute(*args, **kwargs) if callable(attribute) else attribute


def get(env: Any, name: str) -> Any:
    """An attribute of the environment."""
    return getattr(_built(env), name)


def put(env: Any, name: str, value: Any) -> None:
    """Set an attribute of the environment."""
    setattr(_built(env), name, value)


def _built(env: Any) -> Any:
    """What the user's function gave."""
    return env.aec if isinstance(env, TurnsEnv) else env
