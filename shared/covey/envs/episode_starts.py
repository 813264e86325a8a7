"""Begins episodes of vectorised environments: draws seeds, tries again, gives up what only fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.envs.processes import AsyncSlots
from covey.envs.slots import Fault
from covey.envs.sync_slots import SyncSlots
from covey.errors import EnvironmentLoadError

MAX_FAILURES_IN_A_ROW = 3
"""An environment that fails so often without one good step between is given up."""

logger = logging.getLogger("covey.envs")


class EpisodeStarts:
    """Resets environments, again with another seed where a reset fails.

    Args:
        slots: The environments; numbered as errors name them.
    """

    def __init__(self, slots: SyncSlots | AsyncSlots) -> None:
        self._slots = slots
        self._rng = np.random.default_rng()
        self._failures = [0] * slots.count  # in a row, by environment
        self._total = [0] * slots.count

    def seed(self, seed: int | Sequence[int | None] | None) -> list[int]:
        """Return a seed for each environment from what a caller of `reset` gave, drawing those that are missing.

        Args:
            seed: Environment i is seeded with seed + i, or seed[i]; what is None is drawn. Seeds that are drawn later
                come from a generator seeded by those given.

        Raises:
            EnvironmentLoadError: not as many seeds as environments.
        """
        count = self._slots.count
        given = [int(seed) + i for i in range(count)] if isinstance(seed, int | np.integer) else seed
        seeds = [None] * count if given is None else list(given)
        if len(seeds) != count:
            raise EnvironmentLoadError(f"reset: {len(seeds)} seeds for {count} environments, expected one each")
        if known := [s for s in seeds if s is not None]:
            self._rng = np.random.default_rng(known)
        self._failures = [0] * count
        return [self._draw() if s is None else s for s in seeds]

    def begin(
        self, envs: Sequence[int], seeds: Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> list[str]:
        """Begin an episode in each of these environments; returns a sentence for each reset that failed.

        Args:
            envs: Which environments.
            seeds: One each; drawn if None.
            options: For the environments' `reset`.

        Raises:
            EnvironmentLoadError: one of them failed too often in a row.
        """
        messages: list[str] = []
        due = dict(zip(envs, [self._draw() for _ in envs] if seeds is None else seeds, strict=True))
        while due:
            faults = self._slots.reset(list(due), list(due.values()), options)
            messages += [self.failed(f) for f in faults]
            due = {f.slot: self._draw() for f in faults}
        return messages

    def stepped(self, broken: NDArray[np.bool_]) -> None:
        """Note after a step which environments broke; all others have no failures in a row any more."""
        self._failures = [n if b else 0 for n, b in zip(self._failures, broken, strict=True)]

    def failed(self, fault: Fault) -> str:
        """Count an environment's failure; returns a sentence that names the environment.

        Raises:
            EnvironmentLoadError: it failed too often in a row.
        """
        self._failures[fault.slot] += 1
        self._total[fault.slot] += 1
        if self._total[fault.slot].bit_count() == 1:  # the first, the second, the fourth ...
            logger.warning(
                "environment %d raised %s; it was built again, and its agents count as truncated (its fault %d)",
                *(fault.slot, fault.message, self._total[fault.slot]),
            )
        if self._failures[fault.slot] >= MAX_FAILURES_IN_A_ROW:
            raise EnvironmentLoadError(
                f"environment {fault.slot}: failed {MAX_FAILURES_IN_A_ROW} times in a row, at last: {fault.message}"
            )
        return f"environment {fault.slot}: {fault.message}"

    def _draw(self) -> int:
        return int(self._rng.integers(2**31))
