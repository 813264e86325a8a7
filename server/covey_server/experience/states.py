"""What policies with memory remembered where the streams of an actor's message begin.

A stream is the rows of one environment in a message, which may go on with an episode. The states lie behind the
message's columns: stream by stream, agent by agent in environment order, as many float32 numbers as the stream says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from covey.v1.fragment_pb2 import SlotStream

AgentStates = Sequence[NDArray[np.float32]]
"""The state of each agent, in environment order; of size 0 for policies without memory."""


def state_bytes(streams: Sequence[SlotStream]) -> int:
    """Return how many bytes the states of a message's streams take."""
    return 4 * sum(sum(stream.state_sizes) for stream in streams)


def read_states(raw: bytes, streams: Sequence[SlotStream]) -> list[AgentStates]:
    """Return the states at the beginning of each of a message's streams, as views of its decompressed bytes.

    Empty for streams in which no policy has memory.
    """
    size = state_bytes(streams)
    numbers = np.frombuffer(raw, "<f4", size // 4, len(raw) - size)
    found: list[AgentStates] = []
    for stream in streams:
        ends = np.cumsum(stream.state_sizes, dtype=np.int64).tolist()
        found.append([numbers[end - n : end] for n, end in zip(stream.state_sizes, ends, strict=True)])
        numbers = numbers[ends[-1] if ends else 0 :]
    return found


def starts_of(
    trajectory: NDArray[np.int64], continues: NDArray[np.bool_], remembered: Mapping[int, NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """Return what an agent's policy remembers before each of its decisions that no other one continues to, (F, H).

    That is what it remembered at the beginning of a stream, if the decision is the first one of a trajectory that
    begins there; and nothing, zeros, where an episode or a life of the agent began since.

    Args:
        trajectory: (D,), the trajectory of each decision, in which decisions of one stand together.
        continues: (D,), whether the next decision is the one made where this one closed.
        remembered: The states of H numbers where trajectories begin with a stream, by number; empty without memory.
    """
    size = max((values.size for values in remembered.values()), default=0)
    if not size:
        return None
    begins = np.ones(len(trajectory), bool)
    begins[1:] = ~continues[:-1]
    first = np.ones(len(trajectory), bool)
    first[1:] = trajectory[1:] != trajectory[:-1]
    starts = np.zeros((len(trajectory), size), np.float32)
    for d in np.flatnonzero(first).tolist():
        if (values := remembered.get(int(trajectory[d]))) is not None:
            starts[d] = values
    return starts[begins]
