"""The rows of one training slot within a fragment's columns."""

from __future__ import annotations

from typing import NamedTuple


class Stream(NamedTuple):
    """One slot's consecutive rows: `rows` of them from `first_row` on, the first `lead_in_rows` of them lead-in rows.

    Attributes:
        slot: Number of the training slot at its actor.
        member_id: Whose policies played.
        first_row: Where the slot's rows begin in the fragment's columns.
        rows: All rows of the slot, lead-in rows included.
        lead_in_rows: Earlier rows that are repeated because a decision in them is still open.
        steps: Env steps among the rows.
        cut_before: Whether the slot's episode was cut off before the first of these rows.
    """

    slot: int
    member_id: int
    first_row: int
    rows: int
    lead_in_rows: int
    steps: int
    cut_before: bool
