"""How many actors of the learner's own machine are at work, over time: what they leave idle, updates may use."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from covey_server.orders.evaluations import ActorKey
from covey_server.orders.session import Session


class ActorsAtWork:
    """Adds up how long actors of this machine have work (at least one unanswered order), in core-seconds.

    An actor keeps one CPU core busy while it has an order, or one for each environment that has a process of its own.
    The mean over some seconds is the difference of `core_s` divided by them. Two actors that worked for 3 of the last
    10 seconds, one after the other, add 6 core-seconds: they were busy with 0.6 cores.

    Args:
        in_processes: Whether each environment of an actor has a process of its own (`actors.vectorisation: async`).
        clock: Returns monotonic seconds.
    """

    def __init__(self, in_processes: bool, clock: Callable[[], float]) -> None:
        self._in_processes = in_processes
        self._clock = clock
        self._host = socket.gethostname()
        self._lock = threading.Lock()
        self._cores: dict[ActorKey, int] = {}  # those of the actors at work
        self._core_s = self._actor_s = 0.0
        self._since = clock()

    @property
    def core_s(self) -> float:
        """Core-seconds that actors of this machine have been at work, up to now. Any thread may ask."""
        with self._lock:
            self._add()
            return self._core_s

    @property
    def actor_s(self) -> float:
        """Seconds that actors of this machine have been at work, up to now, summed over them. Any thread may ask."""
        with self._lock:
            self._add()
            return self._actor_s

    def begin(self, session: Session | None) -> None:
        """Note that an actor was given an order; one on another machine uses no core of this one."""
        if session is None or session.hostname != self._host:
            return
        with self._lock:
            self._add()
            self._cores[session.key] = session.train_slots + session.eval_slots if self._in_processes else 1

    def end(self, key: ActorKey) -> None:
        """Note that an actor has no order any more."""
        with self._lock:
            self._add()
            self._cores.pop(key, None)

    def _add(self) -> None:
        """Add what was worked since the last time."""
        now = self._clock()
        self._core_s += sum(self._cores.values()) * (now - self._since)
        self._actor_s += len(self._cores) * (now - self._since)
        self._since = now
