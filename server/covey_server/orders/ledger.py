"""Counts a population member's env steps in its generation, and the updates that they make due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey_server.member import Member


@dataclass(slots=True, kw_only=True)
class MemberLedger:
    """The count of one population member's env steps in its generation, and of the updates that they make due.

    For each member, accepted + ordered + remaining steps always equal its quota.

    Its algorithm's pace (`covey_server.orders.pace`) decides in which of two ways updates fall due. Either each
    accepted step counts towards the next update (`Member.unpaid_steps`), and a member with too many updates due is
    `blocked`. Or the member learns from whole rounds: steps `round_start` to `limit` are the present round, played
    under one policy, and nothing beyond `limit` is ordered until the trainer has learned from the round.

    Attributes:
        member: The member; its totals (`env_steps`, `unpaid_steps`) are kept up to date together with the ledger.
        quota: Env steps of the generation.
        limit: Env steps of the generation up to which orders may be made; the quota itself without rounds.
        generation: Number of the generation, from 0.
        later_steps: Env steps of later generations, where the member begins them without waiting for others; else 0.
        round_start: Env steps of the generation that were accepted before the present round.
        accepted: Env steps that were received and count.
        ordered: Env steps in outstanding orders.
        in_rounds: Whether the member learns from whole rounds.
        blocked: Whether too many updates are due: no steps are ordered until some were made.
        held: Whether the member waits to begin its first round, so that not all members learn at the same time.
        durable: Whether a checkpoint has the member's beginning of this generation; only then may orders be issued.
    """

    member: Member
    quota: int
    limit: int
    generation: int = 0
    later_steps: int = 0
    round_start: int = 0
    accepted: int = 0
    ordered: int = 0
    in_rounds: bool = False
    blocked: bool = False
    held: bool = False
    durable: bool = True

    @property
    def member_id(self) -> int:
        """Id of the population member whose env steps are counted here."""
        return self.member.member_id

    @property
    def learn_step(self) -> int:
        """Env steps that make one update due; for on-policy algorithms, the length of a rollout in env steps."""
        return self.member.hyperparameters.learn_step

    @property
    def remaining(self) -> int:
        """Env steps of the generation that were neither accepted nor asked for by an unanswered order to an actor."""
        return self.quota - self.accepted - self.ordered

    @property
    def steps_left(self) -> int:
        """Env steps that actors are still to be asked for, those of later generations included."""
        return self.remaining + self.later_steps

    @property
    def orderable(self) -> int:
        """Env steps that orders to actors may ask for now; 0 while the member has too many updates due or must wait."""
        return 0 if self.blocked or self.held or not self.durable else self.limit - self.accepted - self.ordered

    @property
    def collected(self) -> bool:
        """Whether all env steps of the member's generation were received and accepted."""
        return self.accepted >= self.quota

    @property
    def round_complete(self) -> bool:
        """Whether the member's current on-policy rollout is complete, and it has not learned from it yet."""
        return self.round_start < self.limit <= self.accepted

    @property
    def updates_due(self) -> int:
        """Number of gradient updates that the member's env steps have earned and that were not made yet."""
        return self.member.unpaid_steps // self.learn_step

    def order(self, steps: int) -> None:
        """Record that an order to an actor asks for this many env steps of the member."""
        self.ordered += steps

    def end_order(self, steps: int) -> None:
        """Record that an order for this many env steps has ended; those that were not accepted may be ordered again."""
        self.ordered -= steps

    def accept(self, steps: int) -> None:
        """Count env steps that an actor delivered, for the generation and for the member's whole life."""
        self.accepted += steps
        self.member.env_steps += steps

    def earn_updates(self, steps: int, most_due: int) -> None:
        """Count accepted env steps towards gradient updates; every `learn_step` of them make one update due.

        Args:
            steps: Accepted env steps.
            most_due: With more updates due than this, the member is blocked.
        """
        self.member.unpaid_steps += steps
        self.blocked = self.updates_due > most_due

    def finish_update(self, most_due: int) -> bool:
        """Record that one of the member's due updates was made.

        Args:
            most_due: With more updates due than this, the member stays blocked.

        Returns:
            Whether the member was blocked and is no longer.
        """
        self.member.unpaid_steps -= self.learn_step
        before, self.blocked = self.blocked, self.updates_due > most_due
        return before and not self.blocked

    def next_round(self) -> None:
        """Begin the next on-policy rollout: `learn_step` env steps, or the rest of the generation if that is less."""
        self.round_start = self.accepted
        self.limit = min(self.quota, self.accepted + self.learn_step)

    def to_state(self) -> dict[str, Any]:
        """Return the counts as JSON for a checkpoint, without `ordered`, which follows from the unanswered orders."""
        return {
            "quota": self.quota,
            "limit": self.limit,
            "generation": self.generation,
            "round_start": self.round_start,
            "accepted": self.accepted,
            "held": self.held,
        }

    def from_state(self, state: Mapping[str, Any]) -> None:
        """Restore the counts from a checkpoint that an earlier learner process wrote.

        Raises:
            KeyError, TypeError, ValueError: the state is not of this form.
        """
        for name in ("quota", "limit", "generation", "round_start", "accepted"):
            setattr(self, name, int(state[name]))
        self.held = bool(state["held"])
