"""Environments as people write them: `covey` is given the name `tests.support.written_environments:NAME`."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

F = np.float32


class Plain(ParallelEnv[Any, Any, Any]):  # type: ignore[misc]
    """Two agents, ten steps, one a step for each; variants change it in one place."""

    metadata: dict[str, Any] = {"name": "plain_v0", "render_modes": []}  # noqa: RUF012 - PettingZoo's form
    names: Sequence[Hashable] = ("a_0", "a_1")
    length = 10
    seen: spaces.Space[Any] = spaces.Box(-10, 10, (3,), F)
    acts: spaces.Space[Any] = spaces.Discrete(3)

    def __init__(self) -> None:
        self.possible_agents = list(self.names)
        self.agents: list[Any] = []
        self.given: list[Mapping[Any, Any]] = []

    def observation_space(self, agent: Any) -> Any:
        assert agent in self.names and type(agent) is type(self.names[0]), "its own ids"
        return self.seen

    def action_space(self, agent: Any) -> Any:
        assert agent in self.names
        return self.acts

    def observation(self, agent: Any) -> Any:
        return np.array([self.time, self.names.index(agent), 0], F)

    def reward(self, agent: Any) -> Any:
        return 1.0

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.time, self.agents = 0, list(self.possible_agents)
        return {a: self.observation(a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: Mapping[Any, Any]) -> Any:
        assert set(actions) == set(self.agents), "every agent acts, under its own id"
        for agent, action in actions.items():
            assert self.acts.contains(action), (agent, action)
        self.given.append(actions)
        self.time += 1
        here, over = list(self.agents), self.time >= self.length
        self.agents = [] if over else self.agents
        return (
            {a: self.observation(a) for a in here},
            {a: self.reward(a) for a in here},
            dict.fromkeys(here, False),
            dict.fromkeys(here, over),
            {a: {} for a in here},
        )

    def close(self) -> None:
        pass


class Ints(Plain):
    """Agents 0, 1 and 2."""

    names = (0, 1, 2)


class Tuples(Plain):
    """Agents that are places on a board."""

    names = ((0, 0), (0, 1))


class Half(Plain):
    """A throttle of at least 0, a brake of at most -3, a rudder between -1 and 1, a free number."""

    acts = spaces.Box(np.array([0, -np.inf, -1, -np.inf], F), np.array([np.inf, -3, 1, np.inf], F), dtype=F)

    def reward(self, agent: Any) -> Any:
        return -float(abs(self.given[-1][agent][0] - 0.5))


class OneElementRewards(Plain):
    """Rewards as arrays of one number."""

    def reward(self, agent: Any) -> Any:
        return np.ones((1,), F)


class Columns(Plain):
    """Observations (3, 1) where the space says (3,): the same numbers."""

    def observation(self, agent: Any) -> Any:
        return super().observation(agent)[:, None]


class Short(Plain):
    """Observations of one number where the space says three: numpy would repeat it."""

    def observation(self, agent: Any) -> Any:
        return np.ones((1,), F)


class Long(Plain):
    """Observations of four numbers where the space says three."""

    def observation(self, agent: Any) -> Any:
        return np.ones((4,), F)


class Scaled(Plain):
    """Images from 0 to 1 where the space still says bytes: all of them would be black."""

    seen = spaces.Box(0, 255, (3,), np.uint8)

    def observation(self, agent: Any) -> Any:
        return np.array([0, 1, 0.4], F)


class BeyondBytes(Plain):
    """Numbers of which a byte holds only a part."""

    seen = spaces.Box(0, 255, (3,), np.uint8)

    def observation(self, agent: Any) -> Any:
        return np.array([0, 300, 4])


class HalfChoice(Plain):
    """An observation between two values of its Discrete."""

    seen = spaces.Discrete(3)

    def observation(self, agent: Any) -> Any:
        return 1.5


class Whole(Plain):
    """Whole numbers as floats, where the space says bytes."""

    seen = spaces.Box(0, 255, (3,), np.uint8)

    def observation(self, agent: Any) -> Any:
        return np.array([0.0, 255.0, self.time])


class Ragged(Plain):
    """Observations that are no array."""

    def observation(self, agent: Any) -> Any:
        return [1.0, [2.0, 3.0]]


class TeamReward(Plain):
    """Its `step` returns a single number as the whole team's reward, where PettingZoo has a dictionary by agent."""

    def step(self, actions: Mapping[Any, Any]) -> Any:
        seen, _, *others = super().step(actions)
        return seen, 1.0, *others


class VectorReward(Plain):
    """Two objectives."""

    def reward(self, agent: Any) -> Any:
        return np.ones((2,), F)


class NoReward(Plain):
    """None for a reward."""

    def reward(self, agent: Any) -> Any:
        return None


class OldReset(Plain):
    """reset gives observations alone."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed)[0]


class OldStep(Plain):
    """step gives four dictionaries."""

    def step(self, actions: Mapping[Any, Any]) -> Any:
        seen, rewards, _, ended, infos = super().step(actions)
        return seen, rewards, ended, infos


class OtherNames(Plain):
    """Observations under names that are not in possible_agents."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        seen, infos = super().reset(seed)
        return {f"agent_{a}": o for a, o in seen.items()}, infos


class OtherRewards(Plain):
    """Rewards under names that are not in possible_agents."""

    def step(self, actions: Mapping[Any, Any]) -> Any:
        seen, rewards, *others = super().step(actions)
        return seen, {a.upper(): r for a, r in rewards.items()}, *others


class OtherAgents(Plain):
    """`agents` has names that are not in possible_agents."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        result = super().reset(seed)
        self.agents = [*self.agents, "a_2"]
        return result


class NobodySees(Plain):
    """Nobody ever gets an observation."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return {}, super().reset(seed)[1]

    def step(self, actions: Mapping[Any, Any]) -> Any:
        _, *others = super().step(dict.fromkeys(self.agents, 0))
        return {}, *others


class OneNeverSees(Plain):
    """One of its two agents stays in `agents` for the whole episode and never gets an observation to act on."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        seen, infos = super().reset(seed)
        return {"a_0": seen["a_0"]}, infos

    def step(self, actions: Mapping[Any, Any]) -> Any:
        seen, *others = super().step({"a_1": 0, **actions})
        return {"a_0": seen["a_0"]}, *others


class NobodyThere(Plain):
    """reset leaves `agents` empty."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        result = super().reset(seed)
        self.agents = []
        return result


class NothingToSee(Plain):
    """Observations without entries."""

    seen = spaces.Box(-1, 1, (0,), F)

    def observation(self, agent: Any) -> Any:
        return np.zeros((0,), F)


class EmptyName(Plain):
    """An agent without a name."""

    names = ("", "a_1")


class TwoLines(Plain):
    """A name of two lines."""

    names = ("new\nline", "a_1")


class LongName(Plain):
    """A name of 300 characters."""

    names = ("x" * 300, "a_1")


class SameNames(Plain):
    """Two agents whose ids have one text."""

    names = (0, "0")

    def observation_space(self, agent: Any) -> Any:
        return self.seen


class SmallSeeds(Plain):
    """Its generator takes seeds of 31 bits alone."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        assert seed is None or 0 <= seed < 1 << 31, f"seed {seed} is no int32"
        return super().reset(seed)


class Unseeded(Plain):
    """Draws from the global generators and ignores its seed."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.goal = np.random.randint(1 << 30) + random.randint(0, 9) / 10  # noqa: NPY002
        return super().reset(seed)

    def reward(self, agent: Any) -> Any:
        return float(self.goal)


class SeededOnce(Plain):
    """Seeds its generator when it is built: the second episode of a seed is another than the first."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)

    def observation(self, agent: Any) -> Any:
        return self.rng.uniform(-1, 1, 3).astype(F)


class Unrewarded(Plain):
    """Nobody ever earns anything."""

    def reward(self, agent: Any) -> Any:
        return 0.0


class EndsAnyhow(Plain):
    """Its episodes end when a global generator says so."""

    def step(self, actions: Mapping[Any, Any]) -> Any:
        self.length = random.randint(1, 1 << 20) % 50 + 1
        return super().step(actions)


class RaisesInStepThree(Plain):
    """Raises in the third step of each episode."""

    def step(self, actions: Mapping[Any, Any]) -> Any:
        if self.time == 2:
            raise RuntimeError("the wheel came off")
        return super().step(actions)


class ZeroSum(Plain):
    """A zero-sum game of two: in every step one agent's reward is the other's, negated."""

    def reward(self, agent: Any) -> Any:
        return 1.0 if (self.time % 3 == 0) == (agent == "a_0") else -1.0


class RaisesInSteps(Plain):
    """Raises in every step."""

    def step(self, actions: Mapping[Any, Any]) -> Any:
        raise RuntimeError("the wheel came off")


class Drawn(Plain):
    """Draws pictures, but its function takes no render_mode."""

    metadata = {"name": "drawn_v0", "render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    render_mode = "rgb_array"

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


def small_seeds_function(render_mode: str | None = None) -> SmallSeeds:
    """`SmallSeeds` behind a function."""
    return SmallSeeds()
