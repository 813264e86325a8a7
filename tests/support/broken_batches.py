"""Array environments with one mistake each: `covey` is given the name `tests.support.broken_batches:NAME`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tests.support.written_batches import Bits, Choices, F, Images, Plain, Turns

from covey.envs import AgentArrays, Fault, SlotArrays, agent_arrays
from covey.spaces import EnvironmentSpaces

# -- writes outside of its arrays --------------------------------------------------------------------------------------


class OwnArrays(Plain):
    """Makes arrays of its own."""

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        super().attach(spaces, SlotArrays.zeros(spaces, self.count))


class NoArrays(Plain):
    """Keeps the arrays under another name."""

    arrays = None

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        self.mine = arrays
        self.agents = agent_arrays(spaces, arrays)


class OtherDtype(Plain):
    """Would rather have rewards as float32."""

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        super().attach(spaces, dataclasses.replace(arrays, reward=arrays.reward.astype(F)))


class OtherShape(Plain):
    """Replaces its arrays in a step, by flat ones."""

    def step(self, slots: Any, actions: Any) -> Any:
        result = super().step(slots, actions)
        flat = tuple(o.reshape(self.count, -1) for o in self.arrays.observation)
        self.arrays = dataclasses.replace(self.arrays, observation=flat)
        return result


class RebindsReward(Plain):
    """Assigns a new array of rewards."""

    def step(self, slots: Any, actions: Any) -> Any:
        result = super().step(slots, actions)
        self.arrays.reward = np.ones(self.arrays.reward.shape)
        return result


class RebindsGroup(Plain):
    """Assigns the observations of a group."""

    def begin(self, slots: Any) -> Any:
        self.arrays.observation[0] = np.zeros((self.count, 2, 3), F)
        return super().begin(slots)


class OneCopy(Plain):
    """Ignores how many copies are wanted."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(1)


class LateCount(Plain):
    """Says a wrong number of copies in attach."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs)
        del self.count

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        super().attach(spaces, arrays)
        self.count = 2


class AttachFails(Plain):
    """Looks for a group that there is not."""

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        raise KeyError("walker")


# -- forgets -----------------------------------------------------------------------------------------------------------


def without(base: type[Plain], method: str, name: str, agent: str = "a_1", slot: int | None = None) -> type[Plain]:
    """A class that forgets to write one array of an agent, in all slots or one, in `begin` or `step`."""

    def forgetful(self: Any, slots: Sequence[int], *arguments: Any) -> Any:
        array = getattr(self.agents[agent], name)
        before = array.copy()
        result = getattr(base, method)(self, slots, *arguments)
        at = [s for s in slots if slot in (None, s)]
        array[at] = before[at]
        return result

    return type("Forgetful", (base,), {method: forgetful})


ResetLiving = without(Plain, "begin", "living")
ResetPresent = without(Plain, "begin", "present", slot=2)
ResetReward = without(Plain, "begin", "reward")
ResetFlags = without(Plain, "begin", "truncated", agent="a_0")
ResetObservation = without(Plain, "begin", "observation", slot=3)
ResetBytes = without(Images, "begin", "observation")
ResetMask = without(Choices, "begin", "mask")
StepReward = without(Plain, "step", "reward")
StepFlags = without(Plain, "step", "truncated", slot=1)
StepObservation = without(Plain, "step", "observation", agent="a_0", slot=0)
StepBytes = without(Images, "step", "observation", slot=2)
StepBits = without(Bits, "step", "observation")
StepChoice = without(Choices, "step", "observation")
StepMask = without(Choices, "step", "mask", slot=1)


class AddsRewards(Plain):
    """Adds to the reward of the step before."""

    def step(self, slots: Any, actions: Any) -> Any:
        before = self.arrays.reward.copy()
        super().step(slots, actions)
        self.arrays.reward[slots] += before[slots]
        return []


class ResetsHalf(Plain):
    """Leaves a part of the observation to the steps: after reset it is the last episode's."""

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        last = agent.observation[:, 2].copy()
        super().see(n, agent, slots)
        beginning = [s for s in slots if not self.time[s]]
        agent.observation[beginning, 2] = last[beginning]


class TurnsLeft(Turns):
    """Reset leaves what the agent whose turn it is not saw in the episode before."""

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        before = agent.observation.copy()
        super().see(n, agent, slots)
        waits = [s for s in slots if self.time[s] == 0 and not agent.present[s]]
        agent.observation[waits] = before[waits]


# -- writes where it was not asked to ----------------------------------------------------------------------------------


class StepsAll(Plain):
    """Steps all copies."""

    def step(self, slots: Any, actions: Any) -> Any:
        return super().step(list(range(self.count)), actions)


class ResetsAll(Plain):
    """Resets all copies."""

    def begin(self, slots: Any) -> Any:
        return super().begin(list(range(self.count)))


class ClearsRewards(Plain):
    """Sets all rewards to zero before each step."""

    def step(self, slots: Any, actions: Any) -> Any:
        self.arrays.reward[:] = 0
        return super().step(slots, actions)


# -- resets by itself --------------------------------------------------------------------------------------------------


class ResetsItself(Plain):
    """Begins the next episode in the step that ends one, as Gymnasium's vectorised environments do."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        over = [s for s in slots if self.time[s] >= self.length]
        flags = self.arrays.truncated.copy()
        self.begin(over)
        self.arrays.truncated[over] = flags[over]
        return []


class ResetsLater(Plain):
    """Begins the next episode of a copy that ended in the next step, whoever is asked to move."""

    def step(self, slots: Any, actions: Any) -> Any:
        self.begin([s for s in range(self.count) if self.time[s] >= self.length])
        return super().step(slots, actions)


class Revives(Plain):
    """Agent a_1 ends in step 3 and is back in step 5, in the same episode."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        agent, time = self.agents["a_1"], self.time[slots]
        gone = (time >= 3) & (time < 5)
        agent.living[slots] &= ~gone
        agent.present[slots] &= ~gone
        agent.terminated[slots] = time == 3
        agent.reward[slots] *= ~gone | (time == 3)
        agent.observation[slots] *= (~gone | (time == 3))[:, None]
        return []


# -- ends, or goes on, without saying so -------------------------------------------------------------------------------


class NoFlags(Plain):
    """Episodes end without a flag."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        self.arrays.truncated[slots] = 0
        return []


class Vanishes(Plain):
    """Agent a_1 leaves in step 4, without a word."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        agent, there = self.agents["a_1"], self.time[slots] < 4
        agent.living[slots] = agent.present[slots] = there
        agent.truncated[slots] = 0
        return []


class FlagsFirst(Plain):
    """Flags an end, and takes the agent away a step later."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        self.arrays.terminated[slots] = self.time[slots, None] == self.length - 1
        return []


class KeepsFlags(Plain):
    """The flag of an agent that ended stays up."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        agent, ended = self.agents["a_1"], self.time[slots] >= 4
        agent.living[slots] = agent.present[slots] = ~ended
        agent.terminated[slots], agent.truncated[slots] = ended, 0
        return []


class KeepsShowing(Plain):
    """An agent that ended still sees."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        agent, ended = self.agents["a_1"], self.time[slots] >= 4
        agent.living[slots] = agent.present[slots] = ~ended
        agent.terminated[slots], agent.truncated[slots] = self.time[slots] == 4, 0
        agent.reward[slots] *= self.time[slots] <= 4
        return []


class KeepsMask(Choices):
    """An agent that ended sees nothing, and its mask is still that of the time."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        agent, time = self.agents["a_1"], self.time[slots]
        agent.living[slots] = agent.present[slots] = time < 4
        agent.terminated[slots], agent.truncated[slots] = time == 4, 0
        agent.reward[slots] *= time <= 4
        agent.observation[slots] *= time <= 4
        return []


class EndsAtOnce(Plain):
    """Says in reset that the agents have been truncated."""

    def begin(self, slots: Any) -> Any:
        super().begin(slots)
        self.arrays.truncated[slots] = 1
        return []


class NobodyThere(Plain):
    """Nobody is there after reset."""

    def begin(self, slots: Any) -> Any:
        super().begin(slots)
        self.arrays.living[slots] = self.arrays.present[slots] = 0
        for observation in self.arrays.observation:
            observation[slots] = 0
        return []


class WaitsUntold(Turns):
    """Agents take turns, and the environment says that they do not."""

    asynchronous = False


class Ghosts(Plain):
    """Who has ended is still to act."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        self.arrays.present[slots] = 1
        return []


class Negative(Plain):
    """Writes -1 for agents that ended, which is 255."""

    def step(self, slots: Any, actions: Any) -> Any:
        super().step(slots, actions)
        over = self.time[slots] >= self.length
        self.arrays.living[slots] = np.where(over, np.uint8(255), self.arrays.living[slots].T).T
        return []


class AllForbidden(Choices):
    """At some time nothing is legal."""

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        super().see(n, agent, slots)
        assert agent.mask is not None
        agent.mask[slots] *= (self.time[slots, None] != 4).astype(np.uint8)


class WideMask(Choices):
    """Masks in percent."""

    def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
        super().see(n, agent, slots)
        assert agent.mask is not None
        agent.mask[slots] *= 100


# -- returns something else --------------------------------------------------------------------------------------------


def returning(method: str, value: Callable[[Sequence[int]], Any]) -> type[Plain]:
    """A class whose `begin` or `step` returns something of its own."""

    def returns(self: Any, slots: Sequence[int], *arguments: Any) -> Any:
        getattr(Plain, method)(self, slots, *arguments)
        return value(slots)

    return type("Returning", (Plain,), {method: returns})


ReturnsNothing = returning("step", lambda slots: None)
ReturnsResults = returning("begin", lambda slots: ({}, {}))
ReturnsSlots = returning("step", lambda slots: list(slots))
ReturnsTuple = returning("step", lambda slots: ())
ReturnsOthers = returning("step", lambda slots: [Fault(7, "ValueError: no map")])


class JointReturnsNothing(Plain):
    """Its joint reset forgets to return."""

    def reset_batch(self, slots: Sequence[int], seed: int) -> None:
        self.drawn[slots] = np.random.default_rng(seed).uniform(size=len(slots))
        self.begin(slots)


class JointForgets(Plain):
    """Its joint reset writes the first slot only."""

    def reset_batch(self, slots: Sequence[int], seed: int) -> Any:
        return self.begin(slots[:1])


class JointResetsAll(Plain):
    """Its joint reset begins all copies anew."""

    def reset_batch(self, slots: Sequence[int], seed: int) -> Any:
        return self.begin(list(range(self.count)))
