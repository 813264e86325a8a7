"""Plays an environment that steps its copies as arrays before it is used, and refuses it where it breaks the rules.

What would go unnoticed in training is a sentence before it: a slot that is not written shows an old episode, and one
that is written without having been asked for loses its true last observations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.agent_arrays import AgentArrays, agent_arrays
from covey.envs.array_rules import SURE_BITS, AgentRules, in_slots
from covey.envs.arrays import SlotArrays
from covey.envs.batched import attach, check_arrays, fault_list
from covey.envs.random_actions import random_actions
from covey.envs.sentinels import FLAG, bits, drawn, parts
from covey.envs.slots import BatchedEnvironment, batch_reset, describe
from covey.errors import EnvironmentLoadError
from covey.rows import Active
from covey.spaces import EnvironmentSpaces

WATCHED_COPIES = 4
"""Copies of the environment that is watched: some are stepped while others are not."""

WATCHED_STEPS = 100
"""Calls of step in which it is watched."""

RESETS = 3
"""Times that all copies are reset before the first step, by each method there is."""

FLAGS = ("living", "present", "terminated", "truncated", "mask")
SHOWN = ("observation", "mask", "forced")
ALL = ("living", "present", "terminated", "truncated", "reward", *SHOWN)


def watch_batched(env: BatchedEnvironment, spaces: EnvironmentSpaces) -> None:
    """Play a fresh environment at random for some steps; nobody else can use it afterwards.

    Raises:
        EnvironmentLoadError: what it writes, leaves alone or returns is not what `BatchedEnvironment` says. One that
            raises is not refused: it may work at another time, and if it does not, collecting reports it.
    """
    count = getattr(env, "count", None)
    arrays = attach(env, spaces, count if isinstance(count, int) and count > 0 else WATCHED_COPIES)
    try:
        _Watch(env, spaces, arrays).play()
    except _RaisedError:
        return


class _RaisedError(Exception):
    """The environment raised, so that there is nothing to look at."""


class _Watch:
    """The environment, and what is known of its episodes.

    Before each call sentinels are put where it must write: all of a slot that is reset; of a slot that is stepped what
    its living agents show and earn. Flags stay, as environments read them, and need not write those that do not change.
    """

    def __init__(self, env: BatchedEnvironment, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        self._env, self._spaces, self._arrays = env, spaces, arrays
        self._agents = agent_arrays(spaces, arrays)
        self._slots = list(range(len(arrays.living)))
        self._rng = np.random.default_rng(0)
        self._due = set(self._slots)
        self._ended = np.zeros((len(self._agents), len(self._slots)), bool)  # earlier in the running episode
        self._forgotten: dict[tuple[str, str, str, int], int] = {}
        # Numbers of each agent's observation that reset did not write, by slot.
        self._unwritten = {a: np.zeros(of.observation.shape, bool) for a, of in self._agents.items()}

    def play(self) -> None:
        """Reset and step the environment: all slots, and some of them in any order."""
        together = batch_reset(self._env)
        for k in range(RESETS):
            self._reset(self._shuffled(self._slots), k, None)
            if together:
                self._reset(self._shuffled(self._slots), k, together)
        for k in range(WATCHED_STEPS):
            # Slots whose episodes are over stand still for a while, as others go on.
            if self._due and (k % 5 == 0 or len(self._due) == len(self._slots)):
                self._reset(self._shuffled(self._due), k, together if k % 2 else None)
            if running := [s for s in self._slots if s not in self._due]:
                some = int(self._rng.integers(1, len(running) + 1)) if k else len(running)
                self._step(self._shuffled(running)[:some])

    def _shuffled(self, slots: Collection[int]) -> list[int]:
        return self._rng.permutation(sorted(slots)).tolist()  # type: ignore[no-any-return]

    def _reset(self, slots: list[int], k: int, together: Callable[[Any, Any], Any] | None) -> None:
        """Reset slots, by a seed for each or by one for all, and look at what they show."""
        earlier = self._copy()
        for agent in self._agents.values():
            self._put_sentinels(agent, ALL, slots)
        if together is None:
            name, at, was = self._call("reset", self._env.reset, slots, [100 * k + s for s in slots])
        else:
            name, at, was = self._call("reset_batch", together, slots, k)
        self._ended[:, slots] = False
        for agent, rules in self._rules(name, was, at):
            for array in ("living", "present", "terminated", "truncated", "reward"):
                rules.written(array)
            rules.values()
            rules.begins()
            self._check_shown(agent, rules, at, rules.present)
            rules.absent(~rules.living)
            rules.absent(~rules.present, "has not acted yet")
            now, then = agent.observation, was[agent.agent_id].observation
            sure = bits(now.dtype) >= SURE_BITS
            self._unwritten[agent.agent_id][at] = (now[at] == then[at]) & sure
            self._put_back(agent, was, earlier, slots)
        empty = ~self._arrays.living[at].any(axis=1)
        if empty.any():
            raise EnvironmentLoadError(
                f"environment: living is 0 for all agents of slot {at[int(empty.argmax())]} after {name}, expected 1 "
                f"for those of the episode; set arrays.living and arrays.present in {name}"
            )
        self._due -= set(at)

    def _step(self, slots: list[int]) -> None:
        """Step slots with random actions, and look at what they show."""
        given = random_actions(self._env, self._spaces, self._rng, slots)
        earlier = self._copy()
        for agent in self._agents.values():
            living = [s for s in slots if agent.living[s]]
            self._put_sentinels(agent, ("reward", *SHOWN), living)
        _, at, was = self._call("step", self._env.step, slots, given)
        for ended, (agent, rules) in zip(self._ended, self._rules("step", was, at), strict=True):
            before = earlier[agent.agent_id]
            lived = before.living[at] > 0
            rules.written("reward", lived)
            rules.values()
            rules.lives(lived, ended[at])
            ends = lived & ~rules.living
            self._check_shown(agent, rules, at, lived & (rules.present | (ends & (before.present[at] > 0))))
            rules.absent(~rules.living & ~lived)
            now, then = agent.observation[at], was[agent.agent_id].observation[at]
            late = self._unwritten[agent.agent_id][at] & (now != then)
            rules.refuse(
                lived & in_slots(late),
                "wrote a part of observation of {who} that reset had left as the episode before did, expected all of "
                "it written in reset; write it whole there",
            )
            ended[at] |= ends
            self._put_back(agent, was, earlier, slots)
        self._due |= {s for s in at if not self._arrays.living[s].any()}

    def _call(
        self, name: str, method: Callable[[Any, Any], Any], slots: list[int], argument: Any
    ) -> tuple[str, list[int], dict[str, AgentArrays]]:
        """Call a method, and check what it returns and what it must leave alone.

        Returns:
            Its name, the slots that did not raise, and the agents' arrays as they were before the call.
        """
        was = self._copy()
        try:
            returned = method(list(slots), argument)
        except EnvironmentLoadError:
            raise
        except Exception as exc:
            self._check_rebinding(name, exc)
            raise _RaisedError from exc
        raised = {fault.slot for fault in fault_list(returned, slots, name)}
        check_arrays(self._env, self._arrays, name)
        others = [s for s in self._slots if s not in slots]
        for agent, rules in self._rules(name, was, others):
            for array in ALL:
                if (now := getattr(agent, array)) is not None:
                    then = getattr(was[agent.agent_id], array)[others]
                    if now[others].tobytes() != then.tobytes():
                        rules.refuse(
                            in_slots(now[others] != then),
                            f"wrote {array} of {{who}}, expected slots {', '.join(map(str, sorted(slots)))} alone to "
                            "be written, as it was given these; nothing resets, or goes on, by itself",
                        )
        self._due |= raised
        return name, [s for s in slots if s not in raised], was

    def _check_rebinding(self, name: str, exc: Exception) -> None:
        """Refuse an environment that tried to replace an array, which cannot work at any time."""
        names = [f.name for f in dataclasses.fields(SlotArrays)]
        frozen = isinstance(exc, dataclasses.FrozenInstanceError) and any(f"'{n}'" in str(exc) for n in names)
        if frozen or (isinstance(exc, TypeError) and "'tuple' object does not support item assignment" in str(exc)):
            raise EnvironmentLoadError(
                f"environment: {name} raised {describe(exc)}, expected it to write into the arrays that attach gave; "
                "write in place, such as arrays.reward[slots] = ... or arrays.observation[group][slots] = ..."
            ) from exc

    def _check_shown(self, agent: AgentArrays, rules: AgentRules, at: list[int], must: NDArray[np.bool_]) -> None:
        """Check what an agent shows, which is new where `must` is true, and whether it is to act."""
        group = self._spaces.groups[agent.group]
        rules.acts(asynchronous=self._spaces.asynchronous)
        rules.written("observation", must)
        rules.masked(group, must & (agent.present[at] == Active.CHOSE))
        rules.written("forced", must & (agent.present[at] == Active.FORCED))

    def _rules(
        self, name: str, was: dict[str, AgentArrays], slots: list[int]
    ) -> Iterator[tuple[AgentArrays, AgentRules]]:
        """Each agent with its rules after a call."""
        for agent_id, agent in self._agents.items():
            yield agent, AgentRules(name, agent, was[agent_id], slots, self._forgotten)

    def _copy(self) -> dict[str, AgentArrays]:
        return agent_arrays(self._spaces, self._arrays.copy())

    def _put_sentinels(self, agent: AgentArrays, names: Sequence[str], slots: list[int]) -> None:
        for name in names:
            if (array := getattr(agent, name)) is not None:
                shape = (len(slots), *array.shape[1:])
                array[slots] = FLAG if name in FLAGS else drawn(shape, array.dtype, self._rng)

    def _put_back(
        self, agent: AgentArrays, was: dict[str, AgentArrays], earlier: dict[str, AgentArrays], slots: list[int]
    ) -> None:
        """Put back what the environment has left where it may: what an agent that waits shows, what never changes."""
        for name in SHOWN:
            if (array := getattr(agent, name)) is not None:
                then, before = getattr(was[agent.agent_id], name), getattr(earlier[agent.agent_id], name)
                for (_, own), (_, put), (_, old) in zip(parts(array), parts(then), parts(before), strict=True):
                    now = own[slots]
                    own[slots] = np.where(now == put[slots], old[slots], now)
