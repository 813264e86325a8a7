"""Small parallel environments whose rows can be told in advance.

Configurations name them `tests.support.environments:<function>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from covey.envs import Fault, SlotArrays
from covey.spaces import EnvironmentSpaces

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
    """Says that observations are numbers from 0 to 2."""

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        del agent
        return gymnasium.spaces.Discrete(3)


class TextObservations(CounterEnv):
    """Observations of a kind that is not served, of the walkers; actions of such a kind, of the caller."""

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        return gymnasium.spaces.Text(5) if agent != "caller_0" else super().observation_space(agent)

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        return (
            gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(2))
            if agent == "caller_0"
            else super().action_space(agent)
        )


class DictObservations(CounterEnv):
    """Observations that are not the dictionaries of their space."""

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


@dataclass(frozen=True)
class Moment:
    """What a scripted environment says at one time: in reset (the first moment), then in one step each."""

    agents: Sequence[str]
    seen: Sequence[str]
    rewards: dict[str, float] = field(default_factory=dict)
    terminated: Sequence[str] = ()
    truncated: Sequence[str] = ()
    infos: dict[str, dict[str, Any]] = field(default_factory=dict)
    masks: dict[str, list[int]] = field(default_factory=dict)  # in the observations, of environments with dictionaries


class ScriptedEnv(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Says what it is told to, whatever the agents do; observations are (time, agent index), actions 0 to 2."""

    metadata = {"name": "scripted"}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, possible_agents: Sequence[str], moments: Sequence[Moment], dictionaries: bool = False) -> None:
        self.possible_agents = list(possible_agents)
        self.moments, self.dictionaries = moments, dictionaries
        self.agents: list[str] = []
        self.time = 0
        self.given: list[dict[str, int]] = []
        self._observations = {a: self._space() for a in self.possible_agents}
        self._actions = {a: gymnasium.spaces.Discrete(3) for a in self.possible_agents}

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        return self._observations[agent]

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        return self._actions[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        del seed, options
        self.time = 0
        seen, *_, infos = self._say(self.moments[0])
        return seen, infos

    def step(self, actions: dict[str, Any]) -> Any:
        self.given.append({a: int(v) for a, v in actions.items()})
        self.time += 1
        return self._say(self.moments[self.time])

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to close."""

    def _say(self, moment: Moment) -> Any:
        self.agents = list(moment.agents)
        seen: dict[str, Any] = {}
        for agent in moment.seen:
            seen[agent] = np.array([self.time, self.possible_agents.index(agent)], np.float32)
            if self.dictionaries:
                mask = np.array(moment.masks.get(agent, [1, 1, 1]), np.int8)
                seen[agent] = {"observation": seen[agent], "action_mask": mask}
        everybody = {*moment.agents, *moment.terminated, *moment.truncated}
        return (
            seen,
            dict(moment.rewards),
            {a: a in moment.terminated for a in everybody},
            {a: a in moment.truncated for a in everybody},
            dict(moment.infos),
        )

    def _space(self) -> gymnasium.spaces.Space[Any]:
        box = gymnasium.spaces.Box(0, 100, (2,), np.float32)
        if not self.dictionaries:
            return box
        return gymnasium.spaces.Dict({"observation": box, "action_mask": gymnasium.spaces.Box(0, 1, (3,), np.int8)})


def rhythms() -> ScriptedEnv:
    """Agents with rhythms of their own, for six steps; `rhythm()` says which.

    The drummer acts in every step; from step 4 on it is forced to 2. The singer acts in every third, and ends while it
    waits. The dancer appears after the second step, and all its actions but 1 are illegal.
    """
    legal = {"dancer_0": {"action_mask": np.array([0, 1, 0], np.int8)}}
    forced = {"drummer_0": {"env_defined_actions": 2}}
    first = ["drummer_0", "singer_0"]
    three = [*first, "dancer_0"]
    return ScriptedEnv(
        three,
        [
            Moment(first, first),
            Moment(first, ["drummer_0"], {"drummer_0": 1.0, "singer_0": 0.5}),
            Moment(three, ["drummer_0", "dancer_0"], {"drummer_0": 1.0, "singer_0": 0.25}, infos=legal),
            Moment(three, first, {"drummer_0": 1.0}),
            Moment(three, ["drummer_0", "dancer_0"], {"dancer_0": 2.0, "singer_0": 1.0}, infos=legal | forced),
            Moment(
                ["drummer_0", "dancer_0"], ["drummer_0", "singer_0"], {"singer_0": -1.0}, ["singer_0"], infos=forced
            ),
            Moment([], ["drummer_0", "dancer_0"], {"drummer_0": 4.0, "dancer_0": 8.0}, ["drummer_0"], ["dancer_0"]),
        ],
    )


class BatchedCounter:
    """Copies of a `CounterEnv` of two walkers (walker 1 may end early) and a caller, stepped as arrays."""

    possible_agents = ("walker_0", "caller_0", "walker_1")
    asynchronous = False

    def __init__(self, num_envs: int, length: int, walker_dies_at: int) -> None:
        self.count = num_envs
        self._length, self._walker_dies_at = length, walker_dies_at
        self._single = CounterEnv()
        self._seed = np.zeros(num_envs, np.int64)
        self._time = np.zeros(num_envs, np.int64)
        self.arrays: SlotArrays

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        return self._single.observation_space(agent)

    def action_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        return self._single.action_space(agent)

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        self.arrays = arrays
        self._index = [list(group.agents) for group in spaces.groups]  # in the environment's order
        self._columns = np.concatenate([np.array(i) for i in self._index])

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        at = list(slots)
        self._seed[at], self._time[at] = [s % 65536 for s in seeds], 0
        arrays = self.arrays
        arrays.reward[at] = arrays.terminated[at] = arrays.truncated[at] = 0
        arrays.living[at] = arrays.present[at] = 1
        self._see(at, arrays.living[at] > 0)
        return []

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        del actions
        at = list(slots)
        arrays = self.arrays
        self._time[at] += 1
        lived = arrays.living[at] > 0
        time = self._time[at, None]
        died = lived & (self._columns == 2) & (time == self._walker_dies_at)
        over = lived & ~died & (time >= self._length)
        arrays.reward[at] = np.where(lived, self._columns + time / 100, 0)
        arrays.terminated[at], arrays.truncated[at] = died, over
        arrays.living[at] = arrays.present[at] = lived & ~died & ~over
        self._see(at, lived)
        return []

    def close(self) -> None:
        """Nothing to close."""

    def _see(self, at: list[int], there: NDArray[np.bool_]) -> None:
        p = 0
        for seen, agents in zip(self.arrays.observation, self._index, strict=True):
            for n, agent in enumerate(agents):
                values = np.stack([self._seed[at], self._time[at], np.full(len(at), agent)], -1)
                seen[at, n] = np.where(there[:, p, None], values, 0)
                p += 1


def batched_counter(num_envs: int, length: int = 5, walker_dies_at: int = 0) -> BatchedCounter:
    """A fresh batch of counters."""
    return BatchedCounter(num_envs, length, walker_dies_at)


def half_batched(num_envs: int) -> object:
    """Takes a number of copies, but gives no batch."""
    del num_envs
    return aec()
