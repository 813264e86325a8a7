"""What an environment must write into its arrays in a reset or a step: each rule and the sentence of who breaks it.

Dims: S slots that were reset or stepped.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.agent_arrays import AgentArrays
from covey.envs.sentinels import bits, parts
from covey.errors import EnvironmentLoadError
from covey.rows import Active
from covey.spaces import Group, masked_choices

Flags = NDArray[np.bool_]

SURE_BITS = 20
"""Sentinels that are left are no chance from here on; for few small integers that takes several times in a row."""


def in_slots(elements: NDArray[np.bool_]) -> Flags:
    """In which slots any element is true; slots are the first axis, whatever others there are."""
    return np.asarray(elements.any(axis=tuple(range(1, elements.ndim))))


class AgentRules:
    """The rules for one agent, after a method of its environment has returned.

    Args:
        method: "reset", "reset_batch" or "step".
        agent: The agent's arrays as they are now.
        was: The same as they were when the method was called, sentinels included.
        slots: Those that the method was given and that did not raise.
        forgotten: Bits of sentinels left until now, by method, agent, array and slot; it is updated.

    Every method raises EnvironmentLoadError where a rule is broken.
    """

    def __init__(
        self,
        method: str,
        agent: AgentArrays,
        was: AgentArrays,
        slots: list[int],
        forgotten: dict[tuple[str, str, str, int], int],
    ) -> None:
        self._method, self._agent, self._was, self._slots = method, agent, was, slots
        self._forgotten = forgotten
        self.living: Flags = agent.living[slots] > 0
        self.present: Flags = agent.present[slots] > 0
        self.flagged: Flags = (agent.terminated[slots] > 0) | (agent.truncated[slots] > 0)

    def refuse(self, bad: Flags, sentence: str) -> None:
        """Refuse the environment if anything is bad; {who} in the sentence becomes the agent and the first such slot.

        Args:
            bad: By slot, in the order of the slots.
            sentence: What the method did, what was expected, and what to do.
        """
        if bad.any():
            slot = self._slots[int(bad.argmax())]
            who = f"agent {self._agent.agent_id!r} in slot {slot}"
            raise EnvironmentLoadError(f"environment: {self._method} {sentence}".replace("{who}", who))

    def written(self, name: str, must: Flags | None = None) -> None:
        """An array must have been written in all slots, or in those where `must` is true."""
        for (part, now), (_, was) in zip(
            parts(getattr(self._agent, name)), parts(getattr(self._was, name)), strict=True
        ):
            self._written(name, part, now[self._slots], was[self._slots], must)

    def _written(self, name: str, part: str, now: NDArray[Any], was: NDArray[Any], must: Flags | None) -> None:
        """A part of an array, a leaf of observations or actions that are trees, must have been written."""
        left = ~in_slots(now != was)
        # Where sentinels are numbers that might be written by chance, so many bits speak against it.
        weight = bits(now.dtype) * math.prod(now.shape[1:]) if name in ("observation", "forced") else SURE_BITS
        left &= True if must is None else must
        for slot, forgotten in zip(self._slots, left.tolist(), strict=True):
            key = self._method, self._agent.agent_id, name + part, slot
            self._forgotten[key] = self._forgotten.get(key, 0) + weight if forgotten else 0
        agent = self._agent.agent_id
        sure = [self._forgotten[self._method, agent, name + part, slot] >= SURE_BITS for slot in self._slots]
        grouped = name in ("observation", "mask", "forced")
        self.refuse(
            left & np.array(sure, bool),
            f"left {name}{' ' * bool(part)}{part} of {{who}} as it was, expected it written for every slot that "
            f"{self._method} is given; write it in place, such as arrays.{name}{'[group]' if grouped else ''}"
            f"{f'[{part!r}]' if part else ''}[slots] = ...",
        )

    def values(self) -> None:
        """Flags are 0 or 1, and `present` is one of three values."""
        for name, most in (("living", 1), ("terminated", 1), ("truncated", 1), ("present", max(Active))):
            value = getattr(self._agent, name)[self._slots]
            wrong = value > most
            got = value[wrong][0] if wrong.any() else 0
            self.refuse(
                wrong, f"set {name} of {{who}} to {got}, expected {'0, 1 or 2' if most > 1 else '0 or 1'}; correct it"
            )

    def begins(self) -> None:
        """Nobody ends as an episode begins."""
        self.refuse(
            self.flagged,
            "set terminated or truncated of {who}, expected 0 as an episode begins; set both to 0 in reset",
        )

    def lives(self, lived: Flags, ended: Flags) -> None:
        """Who ends says so, and stays away until the next reset.

        Args:
            lived: Where the agent was in the episode before the step.
            ended: Where it had ended earlier in the episode.
        """
        self.refuse(
            self.flagged & ~lived,
            "set terminated or truncated of {who}, which was not in the episode, expected 1 in the step in which it "
            "ends alone; set both to 0 in the next one",
        )
        self.refuse(
            self.flagged & self.living,
            "set terminated or truncated of {who} and left it living, expected living and present 0; set them with the "
            "flag, and begin the next episode in reset alone",
        )
        self.refuse(
            lived & ~self.living & ~self.flagged,
            "set living of {who} to 0 without terminated or truncated, expected one of them where an agent ends; set "
            "terminated, or truncated at a time limit",
        )
        self.refuse(
            self.living & ended,
            "set living of {who} to 1 after it had ended, expected 0 until reset; begin the next episode in reset "
            "alone",
        )

    def acts(self, *, asynchronous: bool) -> None:
        """Who is to act is in the episode; and the other way round, unless agents may wait."""
        self.refuse(
            self.present & ~self.living,
            "set present of {who}, which is not living, expected 0; set present to 0 with living",
        )
        if not asynchronous:
            self.refuse(
                self.living & ~self.present,
                "set present of {who} to 0 while it is living, expected 1 as asynchronous is False; let it act in "
                "every step, or set asynchronous = True",
            )

    def masked(self, group: Group, must: Flags) -> None:
        """An agent that is to choose, where `must` is true, is shown which actions are legal: at least one."""
        if self._agent.mask is None:
            return
        mask = self._agent.mask[self._slots]
        self.written("mask", must)
        self.refuse(
            must & (mask > 1).any(axis=1),
            "set mask of {who} to other numbers, expected 0 and 1 alone; write 1 for actions that are legal",
        )
        starts = [0, *accumulate(n for n, _ in masked_choices(group.action))][:-1]
        self.refuse(
            must & ~np.logical_or.reduceat(mask > 0, starts, axis=1).all(axis=1),
            "set mask of {who} to 0 for all actions, expected 1 for one at least; correct the mask, or end the agent",
        )

    def absent(self, gone: Flags, why: str = "is not living") -> None:
        """An agent that is not in the episode, or not yet, where `gone` is true, shows nothing and earns nothing."""
        for name in ("observation", "mask", "reward"):
            if getattr(self._agent, name) is None:
                continue
            shown = np.logical_or.reduce(
                [in_slots(part[self._slots] != 0) for _, part in parts(getattr(self._agent, name))]
            )
            self.refuse(
                gone & shown,
                f"left {name} of {{who}}, which {why}, expected zeros; clear what agents that have ended, or "
                "have not acted yet, show",
            )
