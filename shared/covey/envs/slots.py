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
    """Reports that one copy of an environment raised; a fresh copy has taken its place, which needs a reset."""

    slot: int
    message: str  # one line: type and message


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
    """An environment that steps `num_envs` copies of itself as arrays, all in one object.

    `attach` comes once, before the first `reset`; from then on `count` and `arrays` are set. `reset` and `step` write
    the whole of `arrays` as `Slots` says: they also clear what agents that ended left behind. Agents have masks where
    their observation space is a dictionary {observation, action_mask}.

    It may have one method more, where drawing many episodes at once is faster than seeding each of them:
    `reset_batch(slots: Sequence[int], seed: int) -> list[Fault]` begins an episode in each slot given, all of them
    drawn by one generator that is seeded with `seed`. Training uses it, as it does not matter there which episode a
    slot gets; evaluation episodes, and all of deterministic runs, are begun by `reset` with a seed each.
    """

    possible_agents: Sequence[str]
    asynchronous: bool  # living agents need not act in every step

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the observation space of an agent in one copy of the environment."""
        ...

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Return the action space of an agent in one copy of the environment."""
        ...

    def attach(self, spaces: EnvironmentSpaces, arrays: SlotArrays) -> None:
        """Take the arrays that resets and steps are to write to; `spaces` has the agents and their groups."""
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
