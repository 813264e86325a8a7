"""Decides for which member each of the actors' training environments (slots) collects env steps.

Pure bookkeeping over the actors' slots and the members' counts of env steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from covey.v1.order_pb2 import Order
from covey_server.orders.ledger import MemberLedger

Ledgers = Mapping[int, MemberLedger]
"""The living members' ledgers by member id."""


@dataclass(slots=True)
class Slot:
    """One of an actor's training environments, and the population member that it collects env steps for.

    Attributes:
        member_id: The member that the slot plays for; None before it has one.
        fresh: Whether its next order begins with a new episode.
        served_steps: Env steps ordered since the slot plays for this member.
        leaving: Whether its last order ends with an episode, after which the slot may pass to another member.
    """

    member_id: int | None = None
    fresh: bool = True
    served_steps: int = 0
    leaving: bool = False

    def serve(self, member_id: int | None) -> None:
        """Let the environment collect for another member, or for none (None); it begins a new episode with it."""
        self.member_id, self.fresh, self.served_steps, self.leaving = member_id, True, 0, False


LONGEST_PAUSE_ORDERS = 256
"""Most orders of other actors for which one whose answers are empty waits."""


@dataclass(slots=True)
class Backoff:
    """How long an actor whose answers bring nothing waits for its next order, while there are other actors.

    After n such answers in a row 2^n orders of others come first, at most LONGEST_PAUSE_ORDERS. With training, where
    the first is forgiven, these are four after the second, then eight; with evaluations two after the first, then four.

    Attributes:
        forgiven: Answers in a row that may bring nothing, before the actor has to wait.
        empty: Answers in a row that brought nothing of what was asked.
        turn: Id of the order from which on the actor does not wait any more.
    """

    forgiven: int = 0
    empty: int = 0
    turn: int = 0

    def note(self, brought: bool, next_order_id: int) -> bool:
        """Note whether an answer brought anything of what was asked; returns whether the actor is to wait now."""
        self.empty = 0 if brought else self.empty + 1
        waits = self.empty > self.forgiven
        self.turn = next_order_id + min(2**self.empty, LONGEST_PAUSE_ORDERS) if waits else 0
        return waits


@dataclass(slots=True)
class ActorSlots:
    """One actor's environments (slots) and its unanswered orders.

    Attributes:
        slots: The training slots, by their number at the actor.
        eval_slots: Number of evaluation slots.
        orders: Outstanding orders by order id, oldest first.
        draining: Whether the actor gets no further orders.
        overdue: Whether its orders were taken back because it did not answer, and it has not answered since.
        training: Whether it waits with training, as its last answers brought none of the env steps asked for.
        evaluating: Whether it waits with evaluations, as its last answers brought nothing of them.
        uneven: Whether members may have unequal numbers of slots since the actor's last order.
    """

    slots: list[Slot]
    eval_slots: int
    orders: dict[int, Order] = field(default_factory=dict)
    draining: bool = False
    overdue: bool = False
    training: Backoff = field(default_factory=lambda: Backoff(forgiven=1))  # an environment may break once
    evaluating: Backoff = field(default_factory=Backoff)
    uneven: bool = True

    @property
    def takes_orders(self) -> bool:
        """Whether it may be given orders at all: it has environments, answers, and is not draining."""
        return bool(self.slots) and not (self.draining or self.overdue)


def has_turn(
    actor: ActorSlots, actors: Iterable[ActorSlots], backoff_of: Callable[[ActorSlots], Backoff], next_order_id: int
) -> bool:
    """Whether an actor may be given work now: it need not wait for others, or there are none that need not wait."""

    def waits(of: ActorSlots) -> bool:
        """Whether this actor waits until others have been given orders."""
        return backoff_of(of).turn > next_order_id

    return not waits(actor) or not any(other.takes_orders and not waits(other) for other in actors)


def slots_by_member(actors: Iterable[ActorSlots], ledgers: Ledgers) -> Counter[int]:
    """Count the training environments that collect for each living member, over all actors that take orders."""
    return Counter(
        slot.member_id
        for actor in actors
        if actor.takes_orders
        for slot in actor.slots
        if slot.member_id is not None and slot.member_id in ledgers
    )


def assign(actor: ActorSlots, actors: Iterable[ActorSlots], ledgers: Ledgers, turn_steps: int) -> None:
    """Give each of an actor's training environments a living member to collect for, as evenly as possible.

    Args:
        actor: The actor that is about to get an order.
        actors: All actors, this one included.
        ledgers: The living members' ledgers by member id.
        turn_steps: Env steps by which another member must be behind before a slot passes to it.
    """
    if not ledgers:
        return
    # Slots of members that died are free.
    for slot in actor.slots:
        if slot.member_id not in ledgers:
            slot.serve(None)
    slot_counts = slots_by_member(actors, ledgers)

    def hand_over(slot: Slot, member_id: int) -> None:
        """Let an environment collect for another member, and update the counts of environments by member."""
        if slot.member_id is not None:
            slot_counts[slot.member_id] -= 1
        slot_counts[member_id] += 1
        slot.serve(member_id)

    def fewest() -> int:
        """Return the member with the fewest environments, of several the one with most env steps left."""
        return min(ledgers, key=lambda m: (slot_counts[m], -ledgers[m].remaining, m))

    for slot in actor.slots:
        if slot.member_id is None:
            hand_over(slot, fewest())
    # Slots move only if that brings two members' numbers closer: a difference of one cannot be evened out.
    if actor.uneven:
        actor.uneven = False
        for slot in actor.slots:
            neediest = fewest()
            if slot.member_id is not None and slot_counts[slot.member_id] - slot_counts[neediest] >= 2:
                hand_over(slot, neediest)
    # A member with nothing left to order gives its slot away at once; others at the end of their turn.
    for slot in actor.slots:
        if slot.member_id is None:
            continue
        ledger = ledgers[slot.member_id]
        if slot.leaving or ledger.remaining <= 0:
            behind = furthest_behind(ledger, ledgers, slot_counts, turn_steps)
            slot.leaving = False
            if behind is not None:
                hand_over(slot, behind)


def furthest_behind(
    ledger: MemberLedger, ledgers: Ledgers, slot_counts: Mapping[int, int], turn_steps: int
) -> int | None:
    """Return the member for which one of this member's environments should collect from now on; None if it stays.

    The candidate is the member with most env steps left, if orders may be made for it. Whether it gets the slot depends
    on the member that has it now:

    - It has env steps to be ordered: the slot passes if the candidate is a whole turn behind. Members that learn from
      rounds are meant to learn at different times and so not to catch up with each other: among them, only a candidate
      without any slot gets one.
    - It has none now but will have later ones: only a candidate without any slot gets one, as they are needed soon.
    - It has none any more: the slot passes if the candidate is a whole turn behind or has no slot.

    Args:
        ledger: The ledger of the member that has the slot.
        ledgers: The living members' ledgers by member id.
        slot_counts: Number of training slots by member id.
        turn_steps: Env steps of a turn.
    """
    behind = max(ledgers.values(), key=lambda w: (not w.blocked and w.remaining > 0, w.steps_left, -w.member_id))
    if behind.blocked or behind.remaining <= 0:
        return None
    slotless = not slot_counts.get(behind.member_id)
    is_turn_behind = behind.steps_left - ledger.steps_left >= turn_steps
    if ledger.remaining > 0:
        passes = is_turn_behind and (slotless or not ledger.in_rounds)
    elif ledger.later_steps > 0:
        passes = slotless
    else:
        passes = is_turn_behind or slotless
    return behind.member_id if passes else None
