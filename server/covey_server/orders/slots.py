"""Which member each training slot serves: assigned, evened out after joins and losses, and passed on in turns.

Pure bookkeeping over the actors' slots and the members' ledgers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from covey.v1.order_pb2 import Order
from covey_server.orders.ledger import MemberLedger

Ledgers = Mapping[int, MemberLedger]
"""The living members' ledgers by member id."""


@dataclass(slots=True)
class Slot:
    """A training slot of an actor.

    Attributes:
        member_id: Whom it serves; None: nobody yet.
        fresh: Whether its next order begins an episode.
        served_steps: Env steps ordered since it took this member.
        leaving: Whether its last order runs until an episode's end, after which it may pass on.
    """

    member_id: int | None = None
    fresh: bool = True
    served_steps: int = 0
    leaving: bool = False

    def serve(self, member_id: int | None) -> None:
        """Pass to another member, from the start of an episode."""
        self.member_id, self.fresh, self.served_steps, self.leaving = member_id, True, 0, False


@dataclass(slots=True)
class ActorSlots:
    """What the scheduler knows of an actor.

    Attributes:
        slots: Its training slots.
        eval_slots: How many evaluation slots it has.
        orders: Its outstanding orders by id, oldest first.
        draining: Whether it gets no further orders.
        uneven: Whether slots may have become unevenly divided since its last order.
    """

    slots: list[Slot]
    eval_slots: int
    orders: dict[int, Order] = field(default_factory=dict)
    draining: bool = False
    uneven: bool = True


def shares(actors: Iterable[ActorSlots], ledgers: Ledgers) -> Counter[int]:
    """Training slots per living member, over all actors that take orders."""
    return Counter(
        slot.member_id
        for actor in actors
        if not actor.draining
        for slot in actor.slots
        if slot.member_id is not None and slot.member_id in ledgers
    )


def assign(actor: ActorSlots, actors: Iterable[ActorSlots], ledgers: Ledgers, turn_steps: int) -> None:
    """Give every slot of this actor a living member.

    Args:
        actor: Who is about to get an order.
        actors: All actors, this one included.
        ledgers: The living members'.
        turn_steps: How far another member must be behind before a slot passes to it.
    """
    if not ledgers:
        return
    for slot in actor.slots:
        if slot.member_id not in ledgers:
            slot.serve(None)
    held = shares(actors, ledgers)

    def hand_over(slot: Slot, member_id: int) -> None:
        if slot.member_id is not None:
            held[slot.member_id] -= 1
        held[member_id] += 1
        slot.serve(member_id)

    def fewest() -> int:
        """The member with the fewest slots; of several the one with most steps left."""
        return min(ledgers, key=lambda m: (held[m], -ledgers[m].remaining, m))

    for slot in actor.slots:
        if slot.member_id is None:
            hand_over(slot, fewest())
    if actor.uneven:
        actor.uneven = False
        for slot in actor.slots:
            poorest = fewest()
            if slot.member_id is not None and held[slot.member_id] - held[poorest] >= 2:
                hand_over(slot, poorest)
    for slot in actor.slots:
        if slot.member_id is None:
            continue
        ledger = ledgers[slot.member_id]
        # A member with nothing left to order gives its slot away at once; others at the end of their turn.
        if slot.leaving or ledger.remaining <= 0:
            behind = furthest_behind(ledger, ledgers, held, turn_steps)
            slot.leaving = False
            if behind is not None:
                hand_over(slot, behind)


def furthest_behind(than: MemberLedger, ledgers: Ledgers, held: Mapping[int, int], turn_steps: int) -> int | None:
    """To which member a slot of `than` should pass; None: the slot stays.

    The candidate is the member with the most steps left, if it may collect. Whether it gets the slot:

    - `than` has steps to order: yes if the candidate is a turn behind. Members that learn from rounds take turns at
      learning and shall not catch up with each other: there only a candidate without any slot gets it.
    - `than` has none now but will have later ones: only a candidate without any slot, as `than` needs its slots soon.
    - `than` has none any more: yes if the candidate is a turn behind or without any slot.

    Args:
        than: Whose slot it is.
        ledgers: The living members'.
        held: Training slots by member.
        turn_steps: A turn.
    """
    behind = max(ledgers.values(), key=lambda w: (not w.blocked and w.remaining > 0, w.left, -w.member_id))
    if behind.blocked or behind.remaining <= 0:
        return None
    slotless = not held.get(behind.member_id)
    turn_is_due = behind.left - than.left >= turn_steps
    if than.remaining > 0:
        passes = turn_is_due and (slotless or not than.in_rounds)
    elif than.after > 0:
        passes = slotless
    else:
        passes = turn_is_due or slotless
    return behind.member_id if passes else None
