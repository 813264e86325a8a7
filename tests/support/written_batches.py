"""Array environments as people write them: `covey` is given the name `tests.support.written_batches:NAME`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from covey.envs import Active, AgentArrays, Fault, SlotArrays, agent_arrays
from covey.spaces import EnvironmentSpaces

F = np.float32


class Plain:
    """Two agents, ten steps, a reward of one; an observation is (time, agent, a number of the episode)."""

    possible_agents: Sequence[str] = ("a_0", "a_1")
    asynchronous = False
    length = 10
    seen: spaces.Space[Any] = spaces.Box(-10, 10, (3,), F)
    acts: spaces.Space[Any] = spaces.Discrete(3)
    arrays: Any

    def __init__(self, num_envs: int) -> None:
        self.count = num_envs
        self.time = np.zeros(num_envs, np.int64)
        self.drawn = np.zeros(num_envs)

    def observation_space(self, agent: str) -> Any:
        return self.seen

    def action_space(self, agent: str) -> Any:
        return self.acts

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        self.arrays = arrays
        self.agents = agent_arrays(spaces, arrays)

    def reset(self, slots: Any, seeds: Any) -> Any:
        for slot, seed in zip(slots, seeds, strict=True):
            self.drawn[slot] = np.random.default_rng(seed).uniform()
        return self.begin(slots)

    def begin(self, slots: Any) -> Any:
        self.time[slots] = 0
        for n, agent in enumerate(self.agents.values()):
            agent.reward[slots] = agent.terminated[slots] = agent.truncated[slots] = 0
            agent.present[slots] = agent.living[slots] = 1
            self.see(n, agent, slots)
        return []

    def step(self, slots: Any, actions: Any) -> Any:
        self.time[slots] += 1
        over = self.time[slots] >= self.length
        for n, agent in enumerate(self.agents.values()):
            agent.reward[slots] = 1
            agent.terminated[slots] = 0
            agent.truncated[slots] = over
            agent.present[slots] = agent.living[slots] = ~over
            self.see(n, agent, slots)
        return []

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        values = [self.time[slots], np.full(len(slots), n), self.drawn[slots]]
        agent.observation[slots] = np.stack(values, -1)

    def close(self) -> None:
        """Nothing to close."""


class Images(Plain):
    """Observations of bytes."""

    seen = spaces.Box(0, 255, (4, 4), np.uint8)

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        agent.observation[slots] = self.time[slots, None, None]


class Trees(Plain):
    """Observations and actions that are dictionaries: the leaves are fields of the arrays."""

    seen = spaces.Dict({"image": spaces.Box(0, 255, (4, 4), np.uint8), "time": spaces.Box(-10, 10, (3,), F)})
    acts = spaces.Dict({"go": spaces.Discrete(3), "aim": spaces.Box(-1, 1, (2,), F)})

    def step(self, slots: Any, actions: Any) -> Any:
        assert actions[0]["aim"].shape == (self.count, 2, 2) and actions[0]["go"].dtype == np.int64
        return super().step(slots, actions)

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        agent.observation["image"][slots] = self.time[slots, None, None]
        agent.observation["time"][slots] = self.time[slots, None]


class Bits(Plain):
    """An observation of one bit, which a sentinel equals by chance."""

    seen = spaces.Box(0, 1, (1,), np.bool_)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        agent.observation[slots] = self.time[slots, None] % 2


class Choices(Plain):
    """Observations that are one of a few, and actions that are masked: none but the time's may be taken."""

    seen = spaces.Dict({"observation": spaces.Discrete(11), "action_mask": spaces.Box(0, 1, (3,), np.int8)})

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        agent.observation[slots] = self.time[slots]
        assert agent.mask is not None
        agent.mask[slots] = np.arange(3) == self.time[slots, None] % 3


class Board(Plain):
    """Writes what changes alone, on top of what it reads from the arrays, and a number that stays once, in attach."""

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        super().attach(spaces, arrays)
        arrays.observation[0][:, :, 1] = 7

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        for slot in slots:
            if self.time[slot]:
                agent.observation[slot, 0] += 1
            else:
                agent.observation[slot, ::2] = 0


class Turns(Plain):
    """The agents take turns; who waits shows what it saw, and zeros until it has acted."""

    asynchronous = True

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        at = np.array(slots)
        agent.present[at] = (agent.living[at] > 0) & (self.time[at] % 2 == n)
        agent.observation[at[self.time[at] == 0]] = 0
        super().see(n, agent, at[(agent.present[at] > 0) | (self.time[at] >= self.length)])


class Late(Plain):
    """Agent a_1 appears in step 2 and terminates in step 5."""

    def begin(self, slots: Any) -> Any:
        super().begin(slots)
        late = self.agents["a_1"]
        late.present[slots] = late.living[slots] = late.observation[slots] = 0
        return []

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        late, time = self.agents["a_1"], self.time[slots]
        there = (time >= 2) & (time < 5)
        late.living[slots] = late.present[slots] = there
        late.terminated[slots], late.truncated[slots] = time == 5, 0
        late.reward[slots] *= (time > 2) & (time <= 5)
        late.observation[slots] *= ((time >= 2) & (time <= 5))[:, None]
        return []


class Forced(Plain):
    """The environment acts for a_0 in every other step."""

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        super().see(n, agent, slots)
        forced = (self.time[slots] % 2 == 1) & (agent.living[slots] > 0) & (n == 0)
        agent.present[slots] = np.where(forced, Active.FORCED, agent.present[slots])
        agent.forced[slots] = 2


class Breaks(Plain):
    """Slot 1 raises now and then, which it reports."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        return [Fault(s, "ValueError: no map") for s in slots if s == 1 and self.time[s] == 3]


class Raises(Plain):
    """Raises in its third step, in whichever slot."""

    def step(self, slots: Any, actions: Any) -> Any:
        if self.time[slots].max() == 2:
            raise RuntimeError("lost the map")
        return super().step(slots, actions)


class Joint(Plain):
    """Draws episodes together."""

    def reset_batch(self, slots: Sequence[int], seed: int) -> Any:
        self.drawn[slots] = np.random.default_rng(seed).uniform(size=len(slots))
        return self.begin(slots)


class Hangs(Plain):
    """Takes a minute for the fifth step, where there are more copies than while it is tried out."""

    def step(self, slots: Any, actions: Any) -> Any:
        if self.count > 4 and self.time[slots].max() == 4:
            time.sleep(60)
        return super().step(slots, actions)


def observed(values: Callable[[NDArray[Any]], Any]) -> type[Plain]:
    """A class that sees something else."""

    def see(self: Any, n: int, agent: AgentArrays, slots: Any) -> None:
        Plain.see(self, n, agent, slots)
        agent.observation[slots, 0] = values(self.time[slots])

    return type("Observed", (Plain,), {"see": see})


NotFinite = observed(lambda time: np.where(time == 5, np.nan, 0))
Outside = observed(lambda time: time * 100)
