"""The states of policies with memory: what each agent of each environment remembers of its episode.

A state begins at zeros with each episode and each life of its agent in it, and moves on where the agent acts.
Dims: S slots, A agents (group by group, see `covey.envs.arrays`), H numbers of the largest state, R rows of a pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covey.acting.loaded import LoadedPolicy
from covey.spaces import EnvironmentSpaces


class AgentStates:
    """What the agents of S environments remember, where policies with memory play them.

    Args:
        spaces: Spaces of the environment.
        slots: Number of environments, S.
    """

    def __init__(self, spaces: EnvironmentSpaces, slots: int) -> None:
        self.agents = [agent for group in spaces.groups for agent in group.agents]  # of each column
        self._column = {agent: p for p, agent in enumerate(self.agents)}
        self._sizes = np.zeros((slots, len(self.agents)), np.int64)
        self._owners = np.zeros((slots, len(self.agents)), np.uint64)
        self._values = np.zeros((slots, len(self.agents), 0), np.float32)
        self.acts: NDArray[np.bool_] | None = None  # (S * A,), who acts in the step at hand; None: everybody

    @property
    def any(self) -> bool:
        """Whether any agent has had a policy with memory."""
        return self._values.shape[2] > 0

    def assign(self, slot: int, players: Sequence[LoadedPolicy | None], members: Sequence[int] | None = None) -> None:
        """Note who plays the agents of an environment from now on.

        An agent's state is kept as long as its policies belong to one member and have states of one size; else it
        begins anew.

        Args:
            slot: The environment.
            players: For each agent, in environment order, its policy; None plays at random.
            members: The member that each policy belongs to; None: the same as before.
        """
        sizes = [0 if players[agent] is None else _state_size(players[agent]) for agent in self.agents]
        widest = max(sizes)
        if widest > self._values.shape[2]:
            wider = np.zeros((*self._sizes.shape, widest), np.float32)
            wider[..., : self._values.shape[2]] = self._values
            self._values = wider
        if not self.any:
            return
        changed = self._sizes[slot] != sizes
        if members is not None:
            owners = np.array([members[agent] for agent in self.agents], np.uint64)
            changed |= self._owners[slot] != owners
            self._owners[slot] = owners
        self._sizes[slot] = sizes
        self._values[slot, changed] = 0

    def begin_episodes(self, slots: Sequence[int]) -> None:
        """Forget everything in these environments, as episodes begin in them."""
        self._values[slots] = 0

    def see(self, present: NDArray[np.uint8] | None, living: NDArray[np.uint8] | None) -> None:
        """Note before a step who acts in it, and forget what agents remember that are gone.

        Args:
            present: (S, A), not 0 where an agent acts; None: all act.
            living: (S, A), 0 where an agent is not in the episode; None: all are.
        """
        self.acts = None if present is None else present.reshape(-1) > 0
        if living is not None:
            self._values[living == 0] = 0

    def take(self, rows: NDArray[np.intp], into: NDArray[np.float32]) -> None:
        """Copy states, of agents given as slot * A + column, into an array (..., H) of at most H numbers."""
        into[...] = self._values.reshape(-1, self._values.shape[2])[rows, : into.shape[-1]]

    def put(self, rows: NDArray[np.intp], states: NDArray[np.float32]) -> None:
        """Store the states (R, H) after a step of the agents (R,) among these that act in it."""
        flat = self._values.reshape(-1, self._values.shape[2])
        if self.acts is not None:
            acting = self.acts[rows]
            rows, states = rows[acting], states[acting]
        flat[rows, : states.shape[-1]] = states

    def of(self, slot: int) -> list[NDArray[np.float32]]:
        """Copy the states of an environment's agents, in environment order; of size 0 for policies without memory."""
        columns = [self._column[agent] for agent in range(len(self.agents))]
        return [self._values[slot, p, : self._sizes[slot, p]].copy() for p in columns]


def _state_size(player: LoadedPolicy | None) -> int:
    return 0 if player is None else player.spec.network.state_size
