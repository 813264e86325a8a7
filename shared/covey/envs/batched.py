"""Natively batched environments: one object steps all copies, in arrays, and is the slots itself.

An entry point of this kind is a function with a parameter `num_envs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium

from covey.envs.arrays import SlotArrays
from covey.envs.slots import Slots
from covey.spaces import EnvironmentSpaces


class BatchedEnvironment(Slots, Protocol):
    """`num_envs` copies of an environment behind the interface of `Slots`.

    `attach` comes once, before the first `reset`; from then on `count` and `arrays` are set. `reset` and `step` write
    the whole of `arrays` as `Slots` says: they also clear what agents that ended left behind. Agents have masks where
    their observation space is a dictionary {observation, action_mask}.
    """

    possible_agents: Sequence[str]
    asynchronous: bool  # living agents need not act in every step

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """What an agent sees."""
        ...

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """What an agent may do."""
        ...

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        """Take the arrays of `num_envs` slots to write to; `spaces` tells how agents stand in them."""
        ...
