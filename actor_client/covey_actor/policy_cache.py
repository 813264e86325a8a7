"""The policies that an actor keeps in memory: fetched once by hash, dropped when others are used more."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

from covey.acting import LoadedPolicy
from covey.errors import DivergedError
from covey.wire.limits import CACHED_POLICIES, CACHED_POLICY_BYTES

_log = logging.getLogger("covey.actor")

MAX_POLICIES = CACHED_POLICIES
MAX_BYTES = CACHED_POLICY_BYTES


class PolicyCache:
    """Keeps the policies used last, bounded in number and bytes; at least one is kept. Not thread-safe.

    Args:
        fetch: Yields policy files for hashes, ending before one that the learner does not have.
        max_policies: Most policies kept.
        max_bytes: Most bytes of their files.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[bytes]], Iterator[bytes]],
        max_policies: int = MAX_POLICIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._fetch, self._max_policies, self._max_bytes = fetch, max_policies, max_bytes
        self._kept: OrderedDict[bytes, tuple[LoadedPolicy, int]] = OrderedDict()
        self._bytes = 0

    def get(self, sha256: bytes) -> LoadedPolicy | None:
        """The policy of this hash, fetched if need be; None if the learner has none that this actor can use.

        Raises:
            CoveyError: fetching failed, or what was fetched is no policy file.
        """
        self.prepare([sha256])
        if sha256 not in self._kept:
            return None
        self._kept.move_to_end(sha256)
        return self._kept[sha256][0]

    def prepare(self, sha256s: Iterable[bytes]) -> None:
        """Fetch all of these policies that are not in memory, in one call to the learner.

        Raises:
            CoveyError: as `get`.
        """
        missing = [sha256 for sha256 in dict.fromkeys(sha256s) if sha256 not in self._kept]
        if not missing:
            return
        for sha256, data in zip(missing, self._fetch(missing), strict=False):
            try:
                policy = LoadedPolicy.decode(data)
                policy.load_modules()
                self._kept[sha256] = policy, len(data)
            except DivergedError as exc:
                # One policy is refused, not the run: the order that names it is answered as short.
                _log.warning("policy %s: %s", sha256.hex()[:16], exc)
                continue
            self._bytes += len(data)
            while len(self._kept) > 1 and (len(self._kept) > self._max_policies or self._bytes > self._max_bytes):
                self._bytes -= self._kept.popitem(last=False)[1][1]
