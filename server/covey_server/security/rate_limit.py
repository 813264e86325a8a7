"""Rate limit for gRPC calls: a token bucket for each calling host."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from covey.errors import UnreachableError

CALLS_PER_S = 50.0
"""gRPC calls per second that a host may make in the long run."""

BURST = 500.0
"""gRPC calls that a host may make at once, such as when all actors of a machine reconnect at the same moment."""

MAX_HOSTS = 4096
"""Number of hosts remembered; beyond it the host that called longest ago is forgotten, whose bucket is nearly full."""


class RateLimit:
    """Limits how often each host may call, all its connections together.

    Args:
        count: Called with "rate_limited" for each refused call.
        clock: Returns monotonic time in seconds.
    """

    def __init__(self, count: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        # By host, least recent caller first: calls left in its bucket, and the time in seconds at which that was so.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, peer: str, calls: float = 1.0) -> None:
        """Count calls of a host against its rate limit.

        Args:
            peer: Address of the caller as gRPC gives it: "ipv4:1.2.3.4:567", "ipv6:%5B::1%5D:567".
            calls: How many; 0 only asks whether the host may call.

        Raises:
            UnreachableError: the host has used up its calls; it may try again later.
        """
        host = peer.rpartition(":")[0]  # without the port, which differs between connections
        now = self._clock()
        # Token bucket: it holds at most BURST calls, regains CALLS_PER_S of them each second, and loses one with each
        # call. Taking it out and putting it back moves the host to the end, the most recent caller.
        left, then = self._buckets.pop(host, (BURST, now))
        left = min(BURST, left + (now - then) * CALLS_PER_S)
        self._buckets[host] = max(0.0, left - calls), now
        while len(self._buckets) > MAX_HOSTS:
            self._buckets.popitem(last=False)
        if left < 1.0:
            self._count("rate_limited")
            raise UnreachableError(f"too many calls from one machine, expected at most {CALLS_PER_S:.0f} a second")
