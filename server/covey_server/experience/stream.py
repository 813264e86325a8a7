"""Where the rows of one of an actor's training environments lie in a message, and whose policies played them."""

from __future__ import annotations

from typing import NamedTuple


class Stream(NamedTuple):
    """The consecutive rows of one training environment (a slot of the actor) in a message, in the order of time.

    Lead-in rows come first: earlier rows repeated because an agent's decision in them has not closed.

    Attributes:
        slot: Number of the training slot at its actor.
        member_id: The member whose policies played the slot.
        first_row: Where the slot's rows begin in the fragment's columns.
        rows: Number of all rows of the slot, lead-in rows included.
        lead_in_rows: Number of earlier rows that are repeated because a decision in them is still open.
        steps: Env steps among the rows.
        cut_before: Whether the slot's episode was abandoned before the first of these rows.
    """

    slot: int
    member_id: int
    first_row: int
    rows: int
    lead_in_rows: int
    steps: int
    cut_before: bool
