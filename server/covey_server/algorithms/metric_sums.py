"""Running sums of metrics by member, kept on the device until somebody asks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class MetricSums:
    """Sums metrics over minibatches, for each of M members.

    Args:
        metrics: How many metrics there are.
        members: M.
        device: Where losses are computed.
    """

    def __init__(self, metrics: int, members: int, device: torch.device) -> None:
        self._device = device
        self._sums = torch.zeros(metrics, members, device=device)
        self._counts = np.zeros((metrics, members), np.int64)

    def add(self, members: list[int], first: int, values: list[Tensor], active: NDArray[np.bool_]) -> None:
        """Add metrics of n minibatches.

        Args:
            members: For each network, the position of its member in the population.
            first: Which metric the first of `values` is; the others follow it.
            values: (n, networks) for each metric, 0 where a network did not learn.
            active: (n, networks), whether a network learned from the minibatch.
        """
        at, names = np.array(members, np.int64), slice(first, first + len(values))
        # One after the other: `sum` would round by how many networks there are beside.
        sums = torch.stack([x.cumsum(0)[-1] for x in values])
        self._sums[names].index_add_(1, torch.from_numpy(at).to(self._device, non_blocking=True), sums)
        self._counts[names] += np.bincount(at, active.sum(0), len(self._counts[0])).astype(np.int64)

    def take(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the sums of metrics by member since the last call, and the number of summands; then reset both."""
        sums, counts = self._sums.cpu().numpy().astype(np.float64), self._counts.copy()
        self._sums.zero_()
        self._counts[:] = 0
        return sums, counts
