"""When members learn: an update for every so many env steps, or one learning phase for every whole round.

An algorithm declares its pace. The learner asks it at every accepted fragment and after every update, under its lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from covey_server.orders.ledger import MemberLedger


class Pace(Protocol):
    """Decides which updates fall due and how far a member may collect ahead of them."""

    def begin(self, ledger: MemberLedger, place: int, *, together: bool) -> None:
        """A member begins a generation.

        Args:
            ledger: The member's, at its start.
            place: The member's position in the population.
            together: Whether all members begin one at this moment.
        """
        ...

    def accept(self, ledger: MemberLedger, steps: int, held_steps: int) -> None:
        """Env steps of a member came in; the ledger's own counts are entered by whoever accepted them.

        Args:
            ledger: The member's.
            steps: How many.
            held_steps: Env steps that experience held before.
        """
        ...

    def due(self, ledger: MemberLedger) -> int:
        """Updates that a member is to make now."""
        ...

    def ready(self, ledgers: Sequence[MemberLedger]) -> list[int]:
        """Positions of the members to update now, or none while it pays to wait for others to join the same pass.

        Full packs cost what one member costs, so members wait for each other, but nobody for one that is not about to
        come. Only asked while updates fall due for some members and not for all.
        """
        ...

    def pay(self, ledger: MemberLedger) -> bool:
        """A member has made an update; returns whether it may collect more than before."""
        ...


class UpdatesPerStep:
    """One update for every `learn_step` env steps of a member's own: the pace of algorithms that learn from replay.

    Args:
        max_updates_owed: A member that owes more updates collects nothing until it has made some.
        learning_delay: Env steps that replay must hold before steps count towards updates.
    """

    def __init__(self, max_updates_owed: int, learning_delay: int) -> None:
        self._max_updates_owed = max_updates_owed
        self._learning_delay = learning_delay

    def begin(self, ledger: MemberLedger, place: int, *, together: bool) -> None:
        """As `Pace.begin`: all steps of the generation may be ordered."""
        del place, together
        ledger.limit = ledger.quota

    def accept(self, ledger: MemberLedger, steps: int, held_steps: int) -> None:
        """As `Pace.accept`: steps count once replay holds a batch and `learning_delay` steps."""
        batch_size = int(ledger.member.hyperparameters["batch_size"])
        counted = steps if held_steps >= max(batch_size, self._learning_delay) else 0
        ledger.owe(counted, self._max_updates_owed)

    def due(self, ledger: MemberLedger) -> int:
        """As `Pace.due`."""
        return ledger.unpaid_updates

    def ready(self, ledgers: Sequence[MemberLedger]) -> list[int]:
        """As `Pace.ready`: a member that owes a single update waits for the others while it still collects."""
        owing = [i for i, ledger in enumerate(ledgers) if ledger.unpaid_updates]

        def waits(ledger: MemberLedger) -> bool:
            return ledger.unpaid_updates < 2 and not ledger.collected and not ledger.blocked

        return [] if all(waits(ledgers[i]) for i in owing) else owing

    def pay(self, ledger: MemberLedger) -> bool:
        """As `Pace.pay`."""
        return ledger.pay(self._max_updates_owed)


class Rounds:
    """A learning phase after every `learn_step` env steps under one policy: the pace of on-policy algorithms."""

    def begin(self, ledger: MemberLedger, place: int, *, together: bool) -> None:
        """As `Pace.begin`: the first round.

        Every second member begins when the others are half through their first round: while one half of the
        population learns, the other one collects.
        """
        ledger.in_rounds = True
        ledger.next_round()
        ledger.held = together and place % 2 == 1

    def accept(self, ledger: MemberLedger, steps: int, held_steps: int) -> None:
        """As `Pace.accept`: nothing falls due before the round is complete."""

    def due(self, ledger: MemberLedger) -> int:
        """As `Pace.due`: one learning phase where the round is complete."""
        return int(ledger.round_complete)

    def ready(self, ledgers: Sequence[MemberLedger]) -> list[int]:
        """As `Pace.ready`: complete rounds wait for rounds of which every step is on its way."""
        for ledger in ledgers:
            at_hand = ledger.round_start < ledger.limit and not ledger.round_complete
            if at_hand and ledger.accepted + ledger.ordered == ledger.limit:
                return []
        return [i for i, ledger in enumerate(ledgers) if ledger.round_complete]

    def pay(self, ledger: MemberLedger) -> bool:
        """As `Pace.pay`: the next round begins."""
        ledger.next_round()
        return True
