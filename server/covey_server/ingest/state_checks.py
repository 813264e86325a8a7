"""Checks the states of policies with memory in an actor's message: their sizes, and that each is a state of a GRU."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np

from covey.errors import FragmentError
from covey.networks.recurrent import MAX_STATE
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order
from covey_server.experience.states import read_states

StateSize = Callable[[bytes], int | None]
"""From a policy's SHA-256 to how many numbers its state has, 0 without memory; None: the policy is not known."""

LARGEST = 1 + 1e-3
"""States are means of numbers from -1 to 1, and of what they were; a little more by rounding."""


def check_state_sizes(fragment: Fragment, order: Order, state_size: StateSize, agents: int) -> None:
    """Check that each stream says how many numbers its agents' policies remember, before anything is decompressed.

    Raises:
        FragmentError: with reason "states".
    """
    known: dict[tuple[int, ...], list[int | None]] = {}  # most slots are played by few different sets of policies
    work = {own.slot: tuple(own.agent_policies) for own in order.slots}
    for stream in fragment.streams:
        indices, sizes = work[stream.slot], list(stream.state_sizes)
        if indices not in known:
            refs = [order.policies[i] for i in indices]
            known[indices] = [state_size(ref.sha256) if ref.sha256 else 0 for ref in refs]
        expected = known[indices]
        # Where no agent has memory the sizes are left out.
        fits = (
            all(size is None or size == own for size, own in zip(expected, sizes, strict=True))
            if len(sizes) == len(expected) == agents
            else not sizes and not any(expected)
        )
        if not fits or any(size > MAX_STATE for size in sizes):
            wanted = ["any" if size is None else size for size in expected] if any(expected) else "none"
            raise FragmentError(
                "states", f"slot {stream.slot}: states of {sizes[:8]} numbers, expected {wanted}, as the policies have"
            )


def check_states(fragment: Fragment, raw: bytes) -> None:
    """Check that the states in a decompressed message are such as a GRU has.

    Raises:
        FragmentError: with reason "states".
    """
    for stream, states in zip(fragment.streams, read_states(raw, fragment.streams), strict=True):
        if any(not bool((np.abs(values) <= LARGEST).all()) for values in states):  # false for NaN too
            worst = max(map(abs, chain.from_iterable(values.tolist() for values in states)))
            raise FragmentError(
                "states", f"slot {stream.slot}: a state holds {worst:g}, expected numbers between -1 and 1"
            )
