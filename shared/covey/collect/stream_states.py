"""What agents with memory remember where the streams of a message begin, as it is sent behind the rows.

The learner computes all later states itself, from the observations in the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from covey.acting import LoadedPolicy
from covey.acting.states import AgentStates
from covey.errors import RefusedError
from covey.rows import MAX_RAW_BYTES
from covey.v1.fragment_pb2 import SlotStream

MAX_NUMBERS = 1 << 26
"""Numbers that the agents of all environments of an actor remember together: bounds what a learner may ask for."""


def check_memory(policies: Iterable[LoadedPolicy], slots: int, agents: int) -> bool:
    """Return whether any of an order's policies has memory.

    Args:
        policies: The policies.
        slots: Environments of the actor.
        agents: Agents of each.

    Raises:
        RefusedError: states so large that they take more memory than those of any sensible run.
    """
    widest = max((policy.spec.network.state_size for policy in policies), default=0)
    if (numbers := widest * slots * agents) > MAX_NUMBERS:
        raise RefusedError(
            f"policies with states of {widest} numbers: {numbers:,} for {slots} environments of {agents} agents, "
            f"expected at most {MAX_NUMBERS:,}; lower network.encoder_config.max_hidden_state_size or actors.max_slots"
        )
    return widest > 0


class StreamStates:
    """The agents' states at the beginning of each stream of one order.

    A stream begins behind its lead-in rows: decisions in those were made before, perhaps by an earlier policy.

    Args:
        states: What agents remember as the order begins.
        slots: The order's training slots, in its sequence.
    """

    def __init__(self, states: AgentStates, slots: Sequence[int]) -> None:
        self._agents: list[list[NDArray[np.float32]]] = [states.of(slot) for slot in slots]

    def room(self, least: int) -> int:
        """Return how many bytes the states of all streams leave for rows in a message.

        Raises:
            RefusedError: fewer than `least`.
        """
        taken = sum(values.nbytes for agents in self._agents for values in agents)
        if MAX_RAW_BYTES - taken < least:
            raise RefusedError(
                f"policies with memory: {taken:,} bytes of states leave no room for rows in a fragment of "
                f"{MAX_RAW_BYTES:,}; lower network.encoder_config.max_hidden_state_size or actors.max_slots"
            )
        return MAX_RAW_BYTES - taken

    def begin_episode(self, stream: int) -> None:
        """Note that an episode begins with the first row of a stream, so that nothing is remembered there."""
        for values in self._agents[stream]:
            values[...] = 0

    def write(self, streams: Sequence[SlotStream], kept: Sequence[int]) -> bytes:
        """Put the sizes of states into the messages of streams; returns the states, one stream after another.

        Args:
            streams: The messages.
            kept: Of each, its position in the order.
        """
        parts = []
        for stream, i in zip(streams, kept, strict=True):
            if any(values.size for values in self._agents[i]):
                stream.state_sizes.extend(values.size for values in self._agents[i])
                parts += [values.astype("<f4").tobytes() for values in self._agents[i]]
        return b"".join(parts)
