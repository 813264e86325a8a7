"""The interface of what steps many copies of an environment together, and how it reports errors.

Dims: S slots, A agents, N agents of a group; the layout of arrays is that of `covey.envs.arrays`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
from numpy.typing import NDArray

from covey.envs.arrays import SlotArrays
from covey.errors import CoveyError
from covey.spaces import EnvironmentSpaces
from covey.wire.limits import MAX_FAULT_CHARACTERS


@dataclass(frozen=True, slots=True)
class Fault:
    """Reports that one copy of an environment failed in a reset or a step: its episode is over, and a reset is due.

    Attributes:
        slot: The copy's number, from 0.
        message: What went wrong, on one line, such as an exception's type and message.
    """

    slot: int
    message: str


class Slots(Protocol):
    """Copies of one environment, each in a numbered slot, stepped together into stacked arrays.

    `reset` and `step` write the arrays in place, for the slots given and no others. Nothing resets itself: an episode
    is over when none of the slot's agents is `living`, and the arrays hold its true last observations until `reset`.
    """

    count: int
    arrays: SlotArrays

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each environment given, with its seed; returns a report for each that raised."""
        ...

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step of each environment given; returns a report for each that raised.

        S environments, N agents of a group.

        Args:
            slots: Distinct slots whose episodes run.
            actions: One (S, N, *shape) per group, in the space's own units; read where `present` is CHOSE. Environments
                may keep what they are given: pass fresh arrays every time.
        """
        ...

    def close(self) -> None:
        """Close all environments."""
        ...


class BatchedEnvironment(Slots, Protocol):
    """What covey expects of an environment that steps `num_envs` copies of itself as numpy arrays, all in one object.

    The function that a configuration names returns one; its parameter `num_envs` tells covey so. Nothing has to be
    inherited. A copy is called a slot; slots are numbered from 0.

    The environment shows everything in the arrays that `attach` gives it (`SlotArrays`; `agent_arrays` splits them by
    agent). `reset` and `step` write what they hold of the slots given, in place, and nothing of other slots: a reset
    everything, a step all rewards and observations, and flags where they change. An agent is in the episode where
    `living` is 1 and is to act in the next step where `present` is an `Active` value other than 0. In the step in which
    it ends its `terminated` or `truncated` is 1, its `living` and `present` are 0, and its observation is its true last
    one; from the next step on it shows zeros. An episode is over when no agent of the slot is living. It stays as it is
    then: only `reset` begins the next one. Agents have masks where their observation space is a dictionary
    {observation, action_mask}.

    It may have one method more, where drawing many episodes at once is faster than seeding each of them:
    `reset_batch(slots: Sequence[int], seed: int) -> list[Fault]` begins an episode in each slot given, all of them
    drawn by one generator that is seeded with `seed`. Training uses it, as it does not matter there which episode a
    slot gets; evaluation episodes, and all of deterministic runs, are begun by `reset` with a seed each.

    Attributes:
        count: The number of copies, `num_envs`.
        arrays: What `attach` was given; never replaced.
        possible_agents: The ids of all agents that may take part.
        asynchronous: Whether living agents may wait; if not, all of them act in every step.
    """

    possible_agents: Sequence[str]
    asynchronous: bool

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the observation space of an agent in one copy of the environment."""
        ...

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the action space of an agent in one copy of the environment."""
        ...

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        """Take the arrays that resets and steps are to write to; called once, before the first `reset`.

        Args:
            spaces: The agents in the order of `possible_agents`, and the groups by which arrays hold them.
            arrays: Full of zeros; to be kept as `self.arrays`.
        """
        ...

    def reset(self, slots: Sequence[int], seeds: Sequence[int]) -> list[Fault]:
        """Begin an episode in each slot given, whether or not the last one is over.

        Args:
            slots: Distinct slots, in any order.
            seeds: One for each of them; the episode follows from it and from the actions.

        Returns:
            A `Fault` for each slot in which it failed; [] as a rule.
        """
        ...

    def step(self, slots: Sequence[int], actions: Sequence[NDArray[Any]]) -> list[Fault]:
        """Make one env step in each slot given.

        S slots, N agents of a group.

        Args:
            slots: Distinct slots whose episodes run, in any order.
            actions: One array (S, N, *shape) per group, for all slots, in the action space's own units;
                `AgentArrays.actions` picks an agent's. Only those of agents whose `present` is `Active.CHOSE`, in the
                slots given, mean anything.

        Returns:
            A `Fault` for each slot whose episode cannot go on; [] as a rule.
        """
        ...

    def close(self) -> None:
        """Give back what the environment holds, such as files or processes."""
        ...


def batch_reset(slots: Slots) -> Callable[[Sequence[int], int], list[Fault]] | None:
    """The method `reset_batch`, by which slots begin many episodes from one seed; None if these have none."""
    return getattr(slots, "reset_batch", None)


def describe(exc: BaseException) -> str:
    """Type and message of an exception on one line, short enough for a fragment to report it.

    covey's own errors are sentences that need no type before them.
    """
    text = " ".join(str(exc).split())
    return (text if isinstance(exc, CoveyError) else f"{type(exc).__name__}: {text}".removesuffix(": "))[
        :MAX_FAULT_CHARACTERS
    ]
