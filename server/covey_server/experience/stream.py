"""Where one training slot's rows lie within a fragment's columns, and whose they are."""

from __future__ import annotations

from typing import NamedTuple


class Stream(NamedTuple):
    """One slot's consecutive rows in a fragment: lead-in rows first, then all others in the order of time.

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
