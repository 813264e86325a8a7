"""When members' updates fall due: one for every so many env steps, or a learning phase for every whole rollout.

An algorithm declares its pace. The learner asks it at every accepted message and after every update, under its lock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from covey_server.orders.ledger import MemberLedger


class Pace(Protocol):
    """Decides when a member's updates are to be made, and how many env steps may be collected before that."""

    def begin(self, ledger: MemberLedger, place: int, *, together: bool) -> None:
        """Set a member's count of env steps up for the generation that begins.

        Args:
            ledger: The member's new ledger.
            place: The member's position in the population.
            together: Whether all members begin a generation at this moment.
        """
        ...

    def accept(self, ledger: MemberLedger, steps: int, held_steps: int) -> None:
        """Count env steps that actors delivered for a member towards its updates.

        Args:
            ledger: The member's ledger.
            steps: Number of accepted env steps.
            held_steps: Env steps that experience held before these.
        """
        ...

    def due(self, ledger: MemberLedger) -> int:
        """Return how many updates the member is to make now."""
        ...

    def ready(self, ledgers: Sequence[MemberLedger]) -> list[int]:
        """Choose which members to update now, while updates are due for some members but not for all.

        Updating all members in one batch costs about what updating one costs, so members wait for others, but only for
        those whose updates are about to fall due.

        Args:
            ledgers: All members' counts of env steps and updates.

        Returns:
            Positions of the members to update now; none while waiting for others is better.
        """
        ...

    def finish_update(self, ledger: MemberLedger) -> bool:
        """Record that a member has made one update.

        Returns:
            Whether further env steps may be ordered for the member that could not be before.
        """
        ...


class UpdatesPerStep:
    """One update for every `learn_step` env steps of a member: the rule of algorithms that learn from replay.

    Args:
        max_updates_owed: With more updates due than this, a member gets no further env steps until it has made some.
        learning_delay: Env steps that replay must hold before accepted steps count towards updates.
    """

    def __init__(self, max_updates_owed: int, learning_delay: int) -> None:
        self._max_updates_owed = max_updates_owed
        self._learning_delay = learning_delay

    def begin(self, ledger: MemberLedger, place: int, *, together: bool) -> None:
        """Begin a member's generation: actors may be asked for all its env steps at once."""
        del place, together
        ledger.limit = ledger.quota

    def accept(self, ledger: MemberLedger, steps: int, held_steps: int) -> None:
        """Count accepted env steps towards updates, once replay holds a batch and `learning_delay` steps."""
        batch_size = ledger.member.hyperparameters.batch_size
        # Steps from before replay can fill a batch never make updates due, not even later.
        counted = steps if held_steps >= max(batch_size, self._learning_delay) else 0
        ledger.earn_updates(counted, self._max_updates_owed)

    def due(self, ledger: MemberLedger) -> int:
        """Return how many updates the member is to make now: one for every `learn_step` env steps, less those made."""
        return ledger.updates_due

    def ready(self, ledgers: Sequence[MemberLedger]) -> list[int]:
        """Return the positions in the population of the members to update now.

        A member with a single update due waits, while its env steps still come in, to share a batch with others.
        """
        due = [i for i, ledger in enumerate(ledgers) if ledger.updates_due]

        def waits(ledger: MemberLedger) -> bool:
            """Whether this member loses nothing by waiting: one update is due, and further env steps are to come."""
            return ledger.updates_due < 2 and not ledger.collected and not ledger.blocked

        return [] if all(waits(ledgers[i]) for i in due) else due

    def finish_update(self, ledger: MemberLedger) -> bool:
        """Record a finished update; returns whether a member that had too many updates due may now collect again."""
        return ledger.finish_update(self._max_updates_owed)


class Rounds:
    """A learning phase after every `learn_step` env steps under one policy: the rule of on-policy algorithms."""

    def begin(self, ledger: MemberLedger, place: int, *, together: bool) -> None:
        """Begin the member's first on-policy rollout of the generation.

        Where all members begin together, every second one begins when the others are half through their first round:
        from then on one half of the population learns while the other one collects.
        """
        ledger.in_rounds = True
        ledger.next_round()
        ledger.held = together and place % 2 == 1

    def accept(self, ledger: MemberLedger, steps: int, held_steps: int) -> None:
        """Count nothing: an on-policy update falls due only by a complete rollout."""

    def due(self, ledger: MemberLedger) -> int:
        """Return 1, a learning phase, if the member's on-policy rollout is complete; else 0."""
        return int(ledger.round_complete)

    def ready(self, ledgers: Sequence[MemberLedger]) -> list[int]:
        """Return which members learn now; complete rollouts wait for those whose last env steps are already ordered."""
        for ledger in ledgers:
            # Every missing step of this round is in an outstanding order: waiting for it costs little.
            incomplete = ledger.round_start < ledger.limit and not ledger.round_complete
            if incomplete and ledger.accepted + ledger.ordered == ledger.limit:
                return []
        return [i for i, ledger in enumerate(ledgers) if ledger.round_complete]

    def finish_update(self, ledger: MemberLedger) -> bool:
        """Begin the member's next on-policy rollout; returns True, as its env steps may now be collected."""
        ledger.next_round()
        return True


def release_held(ledgers: Collection[MemberLedger], *, at_once: bool = False) -> bool:
    """Let members that wait begin their first rollout once another member is half through its own.

    Args:
        ledgers: All members' counts of env steps.
        at_once: Whether they begin in any case, because no other member has steps to order.

    Returns:
        Whether any member was held.
    """
    held = [ledger for ledger in ledgers if ledger.held and ledger.durable]
    others = (ledger for ledger in ledgers if not ledger.held)
    # A round of 200 env steps: members 0 and 2 begin at once, members 1 and 3 when either has 100 steps. From then on
    # one pair collects while the other one's round is learned from.
    if not held or not (at_once or any(2 * ledger.accepted >= ledger.limit for ledger in others)):
        return False
    for ledger in held:
        ledger.held = False
    return True
