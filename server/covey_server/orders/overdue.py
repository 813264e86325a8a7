"""When an order is overdue: an actor that sends heartbeats and answers nothing must not stop the run.

An actor answers its orders one after the other. The time limit of the oldest one is a multiple of what it should take:

    limit = 10 x (seconds a step of all slots takes) x (such steps in the order)

but at least two heartbeat intervals, and at most `actors.step_timeout_s` for each of the steps. The seconds are the
most that the actor has needed so far; before its first answer, those of the slowest other actor. One that is still
building its environments may so be overdue: its steps go to others, and it gets new orders once it has answered, late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from covey.v1.order_pb2 import Order
from covey_server.orders.evaluations import ActorKey

MARGIN = 10.0
"""An order may take this many times as long as the slowest one before it took for as many steps."""

FORGETTING = 0.99
"""Factor by which the slowest answer counts less with every further answer."""


@dataclass(slots=True)
class _Pace:
    """How one actor answers its orders.

    Attributes:
        head: Id of its oldest outstanding order; None if it has none.
        steps: Steps of all slots that this order asks for.
        since: When the order became its oldest one, seconds of the clock.
        step_s: The most seconds that a step of all slots took; None before the first answer.
    """

    head: int | None = None
    steps: int = 0
    since: float = 0.0
    step_s: float | None = None


class OrderWatch:
    """Watches how long actors take for their orders; call `check` about once a second.

    Args:
        heartbeat_interval_s: Seconds between two heartbeats of an actor.
        step_timeout_s: Seconds that a step or reset of an actor's environments may take.
        clock: Returns monotonic seconds.
    """

    def __init__(self, heartbeat_interval_s: float, step_timeout_s: float, clock: Callable[[], float]) -> None:
        self._least_s = 2 * heartbeat_interval_s
        self._step_timeout_s = step_timeout_s
        self._clock = clock
        self._paces: dict[ActorKey, _Pace] = {}

    def check(self, oldest: Mapping[ActorKey, Order | None]) -> dict[ActorKey, float]:
        """Look at every actor's oldest outstanding order.

        Args:
            oldest: For each actor at work its oldest outstanding order, None if it has none.

        Returns:
            The actors whose order is overdue, with the seconds that it was given.
        """
        now = self._clock()
        self._paces = {key: self._paces.get(key, _Pace()) for key in oldest}
        late = {}
        for key, order in oldest.items():
            pace = self._paces[key]
            head = None if order is None else order.order_id
            if head != pace.head:
                if pace.head is not None:
                    took_s = (now - pace.since) / max(1, pace.steps)
                    pace.step_s = max(took_s, FORGETTING * (pace.step_s or 0.0))
                pace.head, pace.steps, pace.since = head, 0 if order is None else _steps(order), now
            elif order is not None and now - pace.since > (limit_s := self._limit_s(pace)):
                late[key] = limit_s
        return late

    def longest_s(self) -> float:
        """The largest time limit, in seconds, of the actors' oldest outstanding orders; 0 without any."""
        return max((self._limit_s(pace) for pace in self._paces.values() if pace.head is not None), default=0.0)

    def forgive(self) -> None:
        """Let all orders begin anew: for a while the learner itself could not take in answers."""
        for pace in self._paces.values():
            pace.since = self._clock()

    def _limit_s(self, pace: _Pace) -> float:
        """Seconds that an actor has for its oldest order."""
        most_s = self._step_timeout_s * max(1, pace.steps)
        known = [p.step_s for p in self._paces.values() if p.step_s is not None]
        step_s = max(known, default=self._step_timeout_s) if pace.step_s is None else pace.step_s
        return max(self._least_s, min(MARGIN * step_s * pace.steps, most_s))


def _steps(order: Order) -> int:
    """Steps of all slots that an order asks for: slots step together, so those of the slot with most."""
    return max([slot.steps for slot in order.slots] + [order.eval_steps])
