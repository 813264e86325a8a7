"""Statistics of what agents observed when they decided, for policies that read normalised observations.

Every env step's row counts once: lead-in rows repeat earlier ones, tail rows come again as the first of what follows,
and while an agent waits its row repeats what it saw before.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.networks.normalisation import Moments, is_normalised
from covey.observations import LeafEncoding
from covey.rows import STATE, Columns, RowKind, leaf_columns
from covey.spaces import EnvironmentSpaces, Space, leaves
from covey_server.experience.stream import Stream

MOST_MEMBERS = 1024
"""Members whose moments wait to be taken: those that were replaced never take theirs, and the oldest are dropped."""

OF_STATE = -1
"""Stands in place of an agent's index for the state of the whole environment, where rows hold it."""


class NormalisedNumbers:
    """Picks the numbers that are normalised from observations of a space, encoded as networks read them.

    Args:
        space: The observation space.

    Attributes:
        any: Whether there are any.
    """

    def __init__(self, space: Space) -> None:
        self._leaves = [
            (i, LeafEncoding.of(leaf.space)) for i, leaf in enumerate(leaves(space)) if is_normalised(leaf.space)
        ]
        self.any = bool(self._leaves)

    def __call__(self, seen: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return (rows, numbers) from the leaves of the space, each (rows, *shape of the leaf); there must be any."""
        parts = [encoding.encode(seen[i].reshape(len(seen[i]), -1)) for i, encoding in self._leaves]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, -1)


class ObservedRows:
    """Moments of what each member's agents observed since they were taken last; for use by two threads.

    Args:
        spaces: The run's spaces.
    """

    def __init__(self, spaces: EnvironmentSpaces) -> None:
        # Of each group: itself, its numbers, and the names of its observation's columns.
        self._groups = [
            (g, numbers, [name for name, _ in leaf_columns(g.group_id, "observation", g.observation)])
            for g in spaces.groups
            if (numbers := NormalisedNumbers(g.observation)).any
        ]
        of_state = None if spaces.state is None else NormalisedNumbers(spaces.state)
        self._state = of_state if of_state is not None and of_state.any else None
        self._moments: dict[int, dict[int, Moments]] = {}  # by member and agent
        self._lock = threading.Lock()

    def add(self, columns: Columns, streams: Sequence[Stream], members: Collection[int]) -> None:
        """Count the env steps of an accepted message.

        Args:
            columns: All its rows.
            streams: Where the rows of each environment lie, and whose policies played them.
            members: Ids of the members whose rows count.
        """
        step = np.asarray(columns["kind"]) == int(RowKind.STEP)
        whose = np.repeat([s.member_id for s in streams], [s.rows for s in streams])
        for member_id in members:
            own = step & (whose == member_id)
            found: dict[int, Moments] = {}
            for group, numbers, names in self._groups:
                decided = np.asarray(columns[f"{group.group_id}/active"], np.uint8) > 0
                for n, agent in enumerate(group.agents):
                    rows = np.flatnonzero(own & decided[:, n])
                    if len(rows):
                        found[agent] = Moments.of(numbers([columns[name][rows, n] for name in names]))
            if self._state is not None and own.any():
                found[OF_STATE] = Moments.of(self._state([columns[STATE][own]]))
            self.join(member_id, found)

    def join(self, member_id: int, found: Mapping[int, Moments]) -> None:
        """Count what a member's agents observed, by their indices, and the state."""
        with self._lock:
            before = self._moments.pop(member_id, {})
            joined = {a: before[a].joined(its) if a in before else its for a, its in found.items()}
            self._moments[member_id] = before | joined
            while len(self._moments) > MOST_MEMBERS:
                del self._moments[next(iter(self._moments))]

    def take(self, member_id: int) -> dict[int, Moments]:
        """Return what each of a member's agents observed since the last call, by their indices, and forget it.

        Under `OF_STATE` are the states of the whole environment, where rows hold them.
        """
        with self._lock:
            return self._moments.pop(member_id, {})

    def to_state(self) -> dict[str, Any]:
        """Return all moments as JSON, for a checkpoint."""
        with self._lock:
            return {
                str(m): {str(agent): its.to_json() for agent, its in found.items()}
                for m, found in self._moments.items()
            }

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_state` returned.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is something else.
        """
        self._moments = {
            int(m): {int(agent): Moments.from_json(its) for agent, its in found.items()} for m, found in state.items()
        }
