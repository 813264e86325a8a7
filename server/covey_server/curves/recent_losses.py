"""Losses on their way from the trainer, which alone may read what updates add to, to the thread that writes metrics."""

from __future__ import annotations

import threading


class RecentLosses:
    """The members' mean losses between two readings: asked for by one thread, and given by the one that updates.

    Reading them ends one mean and begins the next. In the middle of an update that would lose a part of it, and make
    the same update, run a second time for comparison, look like another one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: dict[int, dict[str, float]] | None = None

    @property
    def wanted(self) -> bool:
        """Whether nothing was given since losses were last taken."""
        with self._lock:
            return self._given is None

    def give(self, losses: dict[int, dict[str, float]]) -> None:
        """Leave the means since the last time, by member id and name, for whoever takes them."""
        with self._lock:
            self._given = losses

    def take(self) -> dict[int, dict[str, float]]:
        """Take what was given, and ask for the next; empty where no update was made since the last time."""
        with self._lock:
            given, self._given = self._given, None
        return given or {}
