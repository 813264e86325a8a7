"""How many env steps an order asks of each environment: more where env steps are cheap, as every order has a price.

An order and the fragment that answers it cost the learner and the actor about a millisecond, however short they are. An
order of 32 steps of a costly environment takes a second, one of a cheap environment a few milliseconds. So the length
is doubled, from the shortest to at most the longest one, while the doubled order would take at most AIM_S and its rows
would fill at most MOST_BYTES. Example: 16 environments step in 0.4 ms, 32 steps in 13 ms; 64 take 26 ms, 128 51 ms.
64 steps are ordered.
"""

from __future__ import annotations

from dataclasses import dataclass

from covey.v1.order_pb2 import Order
from covey_server.orders.evaluations import ActorKey
from covey_server.orders.ledger import MemberLedger

AIM_S = 0.05
"""Seconds that a lengthened order takes at most, by what was measured."""

MOST_BYTES = 4 << 20
"""Bytes of uncompressed rows that the fragment of a lengthened order has at most, by what was measured."""

GROWTH = 8
"""An order is lengthened to at most so many times the shortest one."""

UPDATES_AN_ORDER = 4
"""A lengthened order makes at most so many updates of a member due, which its last steps are then behind."""

SHARE = 0.2
"""Weight of the newest fragment in the mean of what was measured."""


@dataclass(slots=True)
class _Length:
    """The length of one actor's orders.

    Attributes:
        steps: Env steps of each environment.
        step_s: Seconds of a step of all environments, a mean over the last fragments; 0 before the first one.
        step_bytes: Bytes of rows of such a step, likewise.
        rest: Fragments until the length may change again.
        next_rest: The same after the next change; it doubles with each, so that a busy machine brings few of them.
    """

    steps: int
    step_s: float = 0.0
    step_bytes: float = 0.0
    rest: int = 0
    next_rest: int = 1

    def fits(self, steps: int, margin: float) -> bool:
        """Whether an order of so many steps stays within time and bytes, times a margin."""
        return self.step_s * steps <= margin * AIM_S and self.step_bytes * steps <= margin * MOST_BYTES


class OrderLengths:
    """The lengths of actors' orders, in env steps of each environment, by what their fragments took.

    Args:
        shortest: Length of an actor's orders without any measurement.
        longest: Greatest length; equal to `shortest` where the length is pinned.

    Attributes:
        shortest: That length.
    """

    def __init__(self, shortest: int, longest: int) -> None:
        self.shortest, self._longest = shortest, longest
        self._lengths: dict[ActorKey, _Length] = {}

    def measure(self, key: ActorKey, order: Order, work_s: float, raw_bytes: int) -> int | None:
        """Choose the length of an actor's next orders by an order that it has answered in full.

        Args:
            key: The actor.
            order: The order.
            work_s: Seconds that the actor worked on it.
            raw_bytes: Bytes of the answer's rows before compression.

        Returns:
            The greatest length of all actors, if that has changed.
        """
        steps = max((work.steps for work in order.slots), default=0)
        # Orders with evaluations take longer than their training, and those of few steps are mostly their fixed price.
        if self.shortest == self._longest or steps < self.shortest or order.eval_steps:
            return None
        length = self._lengths.setdefault(key, _Length(self.shortest))
        share = SHARE if length.step_s else 1.0
        length.step_s += share * (work_s / steps - length.step_s)
        length.step_bytes += share * (raw_bytes / steps - length.step_bytes)
        length.rest -= 1
        before = length.steps
        if length.rest >= 0:
            return None
        greatest = self._greatest()
        if 2 * length.steps <= self._longest and length.fits(2 * length.steps, 1.0):
            length.steps *= 2
        elif length.steps > self.shortest and not length.fits(length.steps, 1.5):  # a margin: it is not to swing
            length.steps = max(self.shortest, length.steps // 2)
        if length.steps == before:
            return None
        length.rest, length.next_rest = length.next_rest, 2 * length.next_rest
        return self._greatest() if self._greatest() != greatest else None

    def _greatest(self) -> int:
        """The greatest length of all actors' orders."""
        return max(length.steps for length in self._lengths.values())

    def of(self, key: ActorKey, ledger: MemberLedger, slots: int) -> int:
        """The most env steps that an order to an actor asks of each environment that collects for a member.

        A member that learns from rounds is asked for no more than its round, all under one policy. Of others a long
        order would delay updates and make its last steps old: it asks for the shortest length or, if that is more,
        for steps that make UPDATES_AN_ORDER updates due.

        Args:
            key: The actor.
            ledger: The member's ledger.
            slots: Environments that collect for the member, at all actors.
        """
        length = self._lengths.get(key)
        if length is None or ledger.in_rounds:
            return self.shortest if length is None else length.steps
        return min(length.steps, max(self.shortest, UPDATES_AN_ORDER * ledger.learn_step // max(1, slots)))

    def forget(self, key: ActorKey) -> None:
        """Forget an actor that is gone."""
        self._lengths.pop(key, None)
