"""Noticing environments that do not work any more: one that hangs, and one that raises whatever it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable

from covey.errors import EnvironmentLoadError, StalledError
from covey.v1.fragment_pb2 import Fragment

MAX_FRUITLESS_ORDERS = 3
"""An environment that raised in so many orders in a row, without a single good step, is given up."""


class EnvironmentWatch:
    """Watches one actor's environments while it collects.

    What counts is time in which this process ran: one that was stopped for a while blames nobody.

    Args:
        environment: Its entry point.
        limit_s: How long one step or reset of all slots may take.
        leaving: Set when the actor is to leave.
        leave_s: How long it may take then.
        hangs: Called, once, by a thread of the watch, when it takes longer.
    """

    def __init__(
        self,
        environment: str,
        limit_s: float,
        leaving: threading.Event,
        leave_s: float,
        hangs: Callable[[StalledError], None],
    ) -> None:
        self._environment, self._limit_s, self._leaving, self._leave_s = environment, limit_s, leaving, leave_s
        self._hangs = hangs
        self._progress = 0  # grows with every step of an order; 0 where none is at work
        self._fruitless = 0
        self._over = threading.Event()

    def start(self) -> None:
        """Watch from now on, until `close`."""
        threading.Thread(target=self._watch, name="covey-environment", daemon=True).start()

    def step(self) -> bool:
        """A step begins; returns whether to make it no more."""
        self._progress += 1
        return self._leaving.is_set()

    def idle(self) -> None:
        """No step is under way."""
        self._progress = 0

    def judge(self, fragment: Fragment) -> None:
        """See what came of an order.

        Raises:
            EnvironmentLoadError: the environment does nothing but raise; the same would be ordered again and again.
        """
        if fragment.eval_steps or any(stream.steps for stream in fragment.streams):
            self._fruitless = 0
        elif fragment.faults:
            self._fruitless += 1
            if self._fruitless == MAX_FRUITLESS_ORDERS:
                raise EnvironmentLoadError(
                    f"environment {self._environment!r}: no good step in {self._fruitless} orders, expected some; at "
                    f"last {fragment.faults[-1].message}; correct it, and try it with covey check-env"
                )

    def close(self) -> None:
        """Nothing is collected any more."""
        self._over.set()

    def _watch(self) -> None:
        pause_s = min(1.0, self._limit_s / 8)
        seen, stood_s = 0, 0.0
        while not self._over.wait(pause_s):
            stood_s = stood_s + pause_s if self._progress and self._progress == seen else 0.0
            seen = self._progress
            if stood_s >= (min(self._limit_s, self._leave_s) if self._leaving.is_set() else self._limit_s):
                self._hangs(
                    StalledError(
                        f"environment {self._environment!r}: has not returned from a step or reset for {stood_s:.0f} "
                        f"s, expected at most {self._limit_s:g} s; correct it, raise actors.step_timeout_s, or have it "
                        "replaced by itself with actors.vectorisation: async"
                    )
                )
                return
