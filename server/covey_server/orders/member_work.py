"""A member's ledger of env steps: what it is to get in a generation, what is under way, what is in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class MemberWork:
    """One member's ledger of the generation that it is in, env steps.

    On-policy, steps `round_start` to `limit` are the round at hand: they are ordered under one policy, and nothing
    beyond them until the trainer has learned from them.
    """

    member_id: int
    quota: int
    limit: int  # nothing is ordered beyond it; off-policy the quota itself
    generation: int = 0
    after: int = 0  # env steps of later generations, if it begins them without waiting for others
    round_start: int = 0
    accepted: int = 0
    ordered: int = 0
    blocked: bool = False  # owes more updates than its bound
    held: bool = False  # begins later, so that members do not all learn at the same time
    durable: bool = True  # a crash would not take its beginning: only then may orders leave

    @property
    def remaining(self) -> int:
        """Steps of the generation that no order has asked for yet."""
        return self.quota - self.accepted - self.ordered

    @property
    def left(self) -> int:
        """Steps that nothing but itself keeps it from: of two members, the one with more of them is behind."""
        return self.remaining + self.after

    @property
    def orderable(self) -> int:
        """Steps that an order may ask for now."""
        return 0 if self.blocked or self.held or not self.durable else self.limit - self.accepted - self.ordered

    @property
    def collected(self) -> bool:
        """All its steps are in."""
        return self.accepted >= self.quota

    @property
    def round_complete(self) -> bool:
        """All steps of the round at hand are in, and were not learned from yet."""
        return self.round_start < self.limit <= self.accepted

    def next_round(self, steps: int) -> None:
        """Begin a round of so many steps, or of what is left of the generation."""
        self.round_start = self.accepted
        self.limit = min(self.quota, self.accepted + steps)
