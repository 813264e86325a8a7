"""A member's ledger: env steps ordered and accepted in its generation, and the updates that fall due for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey_server.member import Member


@dataclass(slots=True, kw_only=True)
class MemberLedger:
    """One member's ledger of the generation that it is in. Steps are env steps.

    A member may owe updates in one of two ways, which its `covey_server.orders.pace` decides. Either each accepted step
    counts towards the next updates (`Member.unpaid_steps`), and a member that owes too many is `blocked`. Or it learns
    from whole rounds: steps `round_start` to `limit` are the round at hand, played by one policy, and nothing beyond
    `limit` is ordered until the trainer has learned from the round.

    Attributes:
        member: Whose ledger it is; its totals (`env_steps`, `unpaid_steps`) are entered together with the ledger's.
        quota: Steps of the generation.
        limit: Nothing is ordered beyond it; the quota itself where the member does not learn from rounds.
        generation: Its number.
        after: Steps of later generations, where the member begins them without waiting for others.
        round_start: Where the round at hand begins.
        accepted: Steps that came in.
        ordered: Steps in orders that are out.
        in_rounds: Whether the member learns from whole rounds.
        blocked: Owes more updates than it may, so it collects nothing until it has made some.
        held: Begins later than the others, so that members do not all learn at the same time.
        durable: Whether its beginning would survive a crash; only then may orders leave.
    """

    member: Member
    quota: int
    limit: int
    generation: int = 0
    after: int = 0
    round_start: int = 0
    accepted: int = 0
    ordered: int = 0
    in_rounds: bool = False
    blocked: bool = False
    held: bool = False
    durable: bool = True

    @property
    def member_id(self) -> int:
        """Whose ledger it is."""
        return self.member.member_id

    @property
    def learn_step(self) -> int:
        """Env steps for which one update falls due, or of which a round consists."""
        return int(self.member.hyperparameters["learn_step"])

    @property
    def remaining(self) -> int:
        """Steps of the generation that no order has asked for yet."""
        return self.quota - self.accepted - self.ordered

    @property
    def left(self) -> int:
        """Steps still to come in this and, without waiting, later generations; who has most is furthest behind."""
        return self.remaining + self.after

    @property
    def orderable(self) -> int:
        """Steps that an order may ask for now."""
        return 0 if self.blocked or self.held or not self.durable else self.limit - self.accepted - self.ordered

    @property
    def collected(self) -> bool:
        """Whether all steps of the generation are in."""
        return self.accepted >= self.quota

    @property
    def round_complete(self) -> bool:
        """Whether all steps of the round at hand are in and were not learned from yet."""
        return self.round_start < self.limit <= self.accepted

    @property
    def unpaid_updates(self) -> int:
        """Whole updates that accepted steps have earned and that were not made yet."""
        return self.member.unpaid_steps // self.learn_step

    def order(self, steps: int) -> None:
        """An order asks for so many steps."""
        self.ordered += steps

    def end_order(self, steps: int) -> None:
        """An order that asked for so many steps is over; those that were not accepted remain."""
        self.ordered -= steps

    def accept(self, steps: int) -> None:
        """So many steps came in."""
        self.accepted += steps
        self.member.env_steps += steps

    def owe(self, steps: int, most_updates: int) -> None:
        """So many accepted steps count towards updates; more than `most_updates` of them block the member."""
        self.member.unpaid_steps += steps
        self.blocked = self.unpaid_updates > most_updates

    def pay(self, most_updates: int) -> bool:
        """One update was made; returns whether the member was blocked and is no longer."""
        self.member.unpaid_steps -= self.learn_step
        before, self.blocked = self.blocked, self.unpaid_updates > most_updates
        return before and not self.blocked

    def next_round(self) -> None:
        """Begin a round of `learn_step` steps, or of what is left of the generation."""
        self.round_start = self.accepted
        self.limit = min(self.quota, self.accepted + self.learn_step)

    def to_state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON; what is ordered follows from the orders that are out."""
        return {
            "quota": self.quota,
            "limit": self.limit,
            "generation": self.generation,
            "round_start": self.round_start,
            "accepted": self.accepted,
            "held": self.held,
        }

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Take over `to_state` of an earlier life.

        Raises:
            KeyError, TypeError, ValueError: no such state.
        """
        for name in ("quota", "limit", "generation", "round_start", "accepted"):
            setattr(self, name, int(state[name]))
        self.held = bool(state["held"])
