"""What agents with memory remember where the streams of a message begin, as it is sent behind the rows.

The learner computes all later states itself, from the observations in the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covey.acting.states import AgentStates
from covey.v1.fragment_pb2 import SlotStream


class StreamStates:
    """The agents' states at the beginning of each stream of one order.

    A stream begins behind its lead-in rows: decisions in those were made before, perhaps by an earlier policy.

    Args:
        states: What agents remember as the order begins.
        slots: The order's training slots, in its sequence.
    """

    def __init__(self, states: AgentStates, slots: Sequence[int]) -> None:
        self._agents: list[list[NDArray[np.float32]]] = [states.of(slot) for slot in slots]

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
