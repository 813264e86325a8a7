"""Small parallel environments whose rows can be told in advance; found by name as `tests.environments:<function>`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

Observation = NDArray[np.float32]
Step = tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]


class CounterEnv(ParallelEnv[str, Observation, Any]):  # type: ignore[misc]
    """Observations are (seed of the episode, step, agent index); an agent's reward is its index + step / 100.

    Two walkers (Box actions of shape (2,), 1 to 3) and a caller (Discrete, 4 choices from 10 on), in the order
    walker_0, caller_0, walker_1, so that groups are no slices of the environment's order. Episodes are truncated after
    `length` steps. In step `raise_at` (from 1) it raises, in episodes whose seed is a multiple of `raise_every`.
    Walker 1 terminates in step `walker_dies_at`.
    """

    metadata = {"name": "counter", "is_parallelizable": True}  # noqa: RUF012 - PettingZoo's form

    def __init__(
        self,
        length: int = 5,
        raise_at: int = 0,
        raise_every: int = 1,
        raise_in_reset: bool = False,
        walker_dies_at: int = 0,
        blind_at: int = 0,
    ) -> None:
        self.possible_agents = ["walker_0", "caller_0", "walker_1"]
        self.agents: list[str] = []
        self.length, self.raise_at, self.raise_in_reset = length, raise_at, raise_in_reset
        self.raise_every = raise_every
        self.walker_dies_at, self.blind_at = walker_dies_at, blind_at
        self.seed = 0
        self.count = 0
        self.actions: list[dict[str, Any]] = []

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Box(0, np.float32(2**31), (3,), np.float32)

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        if agent == "caller_0":
            return gymnasium.spaces.Discrete(4, start=10)
        return gymnasium.spaces.Box(1.0, 3.0, (2,), np.float32)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        del options
        if self.raise_in_reset:
            raise RuntimeError("no reset today")
        # What float32 can tell apart.
        self.seed = 0 if seed is None else seed % 65536
        self.count = 0
        self.agents = list(self.possible_agents)
        return self._seen(self.agents), {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Step:
        assert list(actions) == self.agents
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), (agent, action)
        self.actions.append(dict(actions))
        self.count += 1
        if self.count == self.raise_at and self.seed % self.raise_every == 0:
            raise RuntimeError(f"broken in\nstep {self.count}")
        acted = self.agents
        over = self.count >= self.length
        died = [a for a in acted if a == "walker_1" and self.count == self.walker_dies_at]
        self.agents = [] if over else [a for a in acted if a not in died]
        seen = self._seen(acted)
        if self.count == self.blind_at:
            del seen["caller_0"]
        return (
            seen,
            {a: self.possible_agents.index(a) + self.count / 100 for a in acted},
            {a: a in died for a in acted},
            {a: over and a not in died for a in acted},
            {a: {} for a in acted},
        )

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to close."""

    def _seen(self, agents: list[str]) -> dict[str, Observation]:
        return {a: np.array([self.seed, self.count, self.possible_agents.index(a)], np.float32) for a in agents}


def counter(**kwargs: Any) -> CounterEnv:
    """A fresh counter."""
    return CounterEnv(**kwargs)


class DiscreteObservations(CounterEnv):
    """Observations of a kind that is not served."""

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Discrete(3)


class DictObservations(CounterEnv):
    """Observations of a kind that is not known."""

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Dict({"x": gymnasium.spaces.Discrete(3)})


def aec() -> Any:
    """An environment of the other API."""
    from mpe2 import simple_speaker_listener_v4

    return simple_speaker_listener_v4.env()


def nothing() -> object:
    """No environment at all."""
    return object()


def fails() -> CounterEnv:
    """Cannot be built."""
    raise OSError("no such map")
