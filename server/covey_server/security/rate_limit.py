"""How often one machine may call: a token bucket for each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from covey.errors import UnreachableError

CALLS_PER_S = 50.0
BURST = 500.0
"""As many workers of one machine may come back at the same moment."""

MAX_HOSTS = 4096
"""Buckets kept; the one that was used longest ago goes first, and it is full by then or nearly so."""


class RateLimit:
    """Unary calls of one host, whatever its connections.

    Args:
        count: Told "rate_limited" with every call refused.
        clock: Monotonic seconds.
    """

    def __init__(self, count: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # calls left, and when that was

    def check(self, peer: str) -> None:
        """Take one call from a peer's bucket.

        Args:
            peer: As gRPC names it: "ipv4:1.2.3.4:567", "ipv6:%5B::1%5D:567".

        Raises:
            UnreachableError: it is empty.
        """
        host = peer.rpartition(":")[0]
        now = self._clock()
        left, then = self._buckets.pop(host, (BURST, now))
        left = min(BURST, left + (now - then) * CALLS_PER_S)
        self._buckets[host] = max(0.0, left - 1.0), now
        while len(self._buckets) > MAX_HOSTS:
            self._buckets.popitem(last=False)
        if left < 1.0:
            self._count("rate_limited")
            raise UnreachableError(f"too many calls from one machine, expected at most {CALLS_PER_S:.0f} a second")
