"""Notices environments that no longer work: they hang, or raise in every step."""

from __future__ import annotations

import threading
from collections.abc import Callable

from covey.errors import EnvironmentLoadError, StalledError
from covey.v1.fragment_pb2 import Fragment

MAX_FRUITLESS_ORDERS = 3
"""Orders in a row, without a single good step, after which an environment that raises is given up."""


class EnvironmentWatch:
    """Watches for environments that hang or only raise while an actor steps them.

    Only time in which this process ran counts: an environment is not blamed for a process that was stopped for a while.

    Args:
        environment: Entry point, for errors.
        limit_s: Seconds that one step or reset of all slots may take.
        leaving: Set when the actor is to leave.
        leave_s: Seconds that a step or reset may take once the actor is to leave.
        hangs: Called once, from the watch's own thread, when a step or reset takes longer.
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
        self._progress = 0  # grows with every step of an order; 0 while no order is at work
        self._fruitless = 0  # orders in a row without a good step
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to watch for environments that hang, in a thread of its own, until `close`."""
        threading.Thread(target=self._watch, name="covey-environment", daemon=True).start()

    def step(self) -> bool:
        """Note that an env step begins; returns True if it should not be made, as the actor is to leave."""
        self._progress += 1
        return self._leaving.is_set()

    def idle(self) -> None:
        """Note that no env step is being made now."""
        self._progress = 0

    def check(self, fragment: Fragment) -> None:
        """Check in an order's result whether the environments made any env steps or only raised.

        Raises:
            EnvironmentLoadError: the environment only raised in the last few orders, and would go on so.
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
        """Stop watching the environments."""
        self._over.set()

    def _watch(self) -> None:
        """Check at short intervals whether env steps are still made, and report when none was for too long."""
        pause_s = min(1.0, self._limit_s / 8)
        seen, stood_s = 0, 0.0
        while not self._over.wait(pause_s):
            stood_s = stood_s + pause_s if self._progress and self._progress == seen else 0.0
            seen = self._progress
            if stood_s >= (min(self._limit_s, self._leave_s) if self._leaving.is_set() else self._limit_s):
                self._hangs(
                    StalledError(
                        f"environment {self._environment!r} has not returned from a step or reset for {stood_s:.0f} "
                        f"s, expected at most {self._limit_s:g} s; correct it, raise actors.step_timeout_s, or have it "
                        "replaced by itself with actors.vectorisation: async"
                    )
                )
                return
