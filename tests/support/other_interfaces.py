"""Environments of other interfaces than PettingZoo's, small enough to know what they must give."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from tests.support.environments import CounterEnv

from covey.envs.adapters import Adapter

SEEN = Box(0.0, 10.0, (2,), np.float32)


class TupleGame(gymnasium.Env[Any, Any]):
    """Three agents in Tuple spaces; each sees (time, its number) and earns its action; ends after `length` steps.

    With `spaces: unequal` the second sees that three times over, side by side, and the third as a column.
    """

    def __init__(self, length: int = 4, rewards: str = "list", flags: str = "one", spaces: str = "tuple") -> None:
        self.length, self.rewards, self.flags = length, rewards, flags
        self.shapes = [(2,), (6,), (2, 1)] if spaces == "unequal" else [(2,)] * 3
        seen = [Box(-10, 10, shape, np.float32) for shape in self.shapes]
        self.observation_space: Any = seen if spaces == "list" else Tuple(seen)
        self.action_space: Any = [Discrete(3, start=1)] * 3 if spaces == "list" else Tuple([Discrete(3, start=1)] * 3)
        self.given: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.seen(), {}

    def seen(self) -> Any:
        return [np.resize(np.array([self.time, i], np.float32), shape) for i, shape in enumerate(self.shapes)]

    def step(self, action: Any) -> Any:
        assert isinstance(action, tuple) and all(a in (1, 2, 3) for a in action)
        self.given.append(action)
        self.time += 1
        earned: Any = [float(a) for a in action]
        info: dict[str, Any] = {}
        if self.rewards == "info":
            info["agents_rewards"], earned = tuple(earned), sum(earned) / 3
        elif self.rewards == "team":
            earned = 7.0
        over: Any = self.time >= self.length
        if self.flags == "each":  # the first agent ends a step before the others
            over = [self.time >= self.length - (i == 0) for i in range(3)]
        return self.seen(), earned, over, False, info


class DictGame(gymnasium.Env[Any, Any]):
    """Two agents, 0 and 1, in Dict spaces; the first ends a step before the other; wants everybody's actions always."""

    def __init__(self, ends: str = "each") -> None:
        self.observation_space = Dict({0: SEEN, 1: SEEN})  # type: ignore[dict-item]
        self.action_space = Dict({0: Discrete(2), 1: Discrete(2)})  # type: ignore[dict-item]
        self.ends = ends

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.time = 0
        return self.seen(), {}

    def seen(self) -> Any:
        return {i: np.array([self.time, i], np.float32) for i in range(2)}

    def step(self, action: Any) -> Any:
        assert set(action) == {0, 1}
        self.time += 1
        over: Any = {0: self.time >= 3, 1: self.time >= 4}
        if self.ends == "__all__":
            over = {0: False, 1: False, "__all__": self.time >= 3}
        return self.seen(), {0: 1, 1: 2}, over, {0: False, 1: False}, {}


class OldGame:
    """One agent by the old gym's interface: `seed`, reset without one, four values from step, spaces of its own."""

    class Box:
        def __init__(self) -> None:
            self.low, self.high = np.zeros(1, np.float32), np.ones(1, np.float32)
            self.shape, self.dtype = (1,), np.float32

    class Discrete:
        n = 2

    def __init__(self) -> None:
        self.observation_space, self.action_space = self.Box(), self.Discrete()
        self.seeds: list[Any] = []

    def seed(self, seed: Any = None) -> None:
        self.seeds.append(seed)

    def reset(self) -> Any:
        self.time = 0
        return np.zeros(1, np.float32)

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.ones(1, np.float32), 1.0, self.time >= 3, {"TimeLimit.truncated": self.time >= 3}


class ThreeValues(OldGame):
    """An interface that nobody has."""

    def step(self, action: Any) -> Any:
        return np.ones(1, np.float32), 1.0, False


class LateEnv(CounterEnv):
    """A PettingZoo environment that has neither agents nor spaces before its first reset."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._known, self.possible_agents = list(self.possible_agents), []
        self._begun = False

    def observation_space(self, agent: str) -> Any:
        if not self._begun:
            raise KeyError(agent)
        return super().observation_space(agent)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._begun, self.possible_agents = True, self._known
        return super().reset(seed=seed, options=options)


class Plates:
    """An interface of a stranger's own, which only the stranger's adapter knows."""

    def begin(self) -> int:
        return 0


def copies_of_nothing(num_envs: int = 3) -> Any:
    """A function whose parameter `num_envs` means something else than covey's."""
    return CounterEnv(length=num_envs)


def plates() -> Plates:
    return Plates()


PLATES = Adapter(lambda env: "a game of plates" if isinstance(env, Plates) else "", parallel=lambda env: CounterEnv())


class Cupboard:
    """A class whose methods are names of environments, some of them."""

    def ordinary(self) -> CounterEnv:
        return CounterEnv()

    @staticmethod
    def opened(length: int = 5) -> CounterEnv:
        return CounterEnv(length=length)


gymnasium.register(id="Plates-v1", entry_point="tests.support.other_interfaces:TupleGame", kwargs={"length": 2})
gymnasium.register(id="Elsewhere/Plates-v1", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
