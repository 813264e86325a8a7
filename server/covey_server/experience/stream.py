"""Where the rows of one of an actor's training environments lie in a message, and whose policies played them."""

from __future__ import annotations

from typing import NamedTuple


class Stream(NamedTuple):
    """The consecutive rows of one training environment (a slot of the actor) in a message, in the order of time.

    Rows that repeat earlier ones come first: context rows, for stacks of frames, and lead-in rows, in which an agent's
    decision has not closed.

    Attributes:
        slot: Number of the training slot at its actor.
        member_id: The member whose policies played the slot.
        first_row: Where the slot's rows begin in the fragment's columns.
        rows: Number of all rows of the slot, repeated ones included.
        lead_in_rows: Number of earlier rows that are repeated because a decision in them is still open.
        steps: Env steps among the rows.
        cut_before: Whether the slot's episode was abandoned before the first of these rows.
        context_rows: Number of earlier observations that are repeated for stacks of frames.
    """

    slot: int
    member_id: int
    first_row: int
    rows: int
    lead_in_rows: int
    steps: int
    cut_before: bool
    context_rows: int = 0

    @property
    def first_new_row(self) -> int:
        """Where the first row lies that is neither a context nor a lead-in row."""
        return self.first_row + self.context_rows + self.lead_in_rows
