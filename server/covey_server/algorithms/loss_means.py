"""Mean losses of the population's members, summed on the device and read only on request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Loss = Literal["critic_loss", "actor_loss"]
LOSSES: tuple[Loss, ...] = ("critic_loss", "actor_loss")


class LossMeans:
    """Running sums of each member's losses on the device, and how many updates are in them.

    Args:
        networks: For each loss, over how many networks of a member it is summed.
        members: Size of the population.
        device: Where updates are computed.

    Attributes:
        sums: (losses, members) since they were last taken.
    """

    def __init__(self, networks: dict[Loss, int], members: int, device: torch.device) -> None:
        self._networks = networks
        self.sums = torch.zeros(len(LOSSES), members, device=device)
        self._updates = {name: [0] * members for name in LOSSES}

    def count(self, name: Loss, chosen: Sequence[int]) -> None:
        """Count an update of some members on the CPU; `add` adds its losses on the device."""
        for m in chosen:
            self._updates[name][m] += 1

    def add(self, name: Loss, index: Tensor | None, losses: Tensor) -> None:
        """Add losses of one update to the sums of the members at `index`; None: of all members."""
        row = self.sums[LOSSES.index(name)]
        if index is None:
            row.add_(losses)
        else:
            row.index_add_(0, index, losses)

    def take(self) -> list[dict[str, float]]:
        """Return each member's mean losses per network and update since the last call, then reset."""
        sums = self.sums.tolist()
        means: list[dict[str, float]] = [
            {
                name: sums[i][m] / (self._updates[name][m] * self._networks[name])
                for i, name in enumerate(LOSSES)
                if self._updates[name][m]
            }
            for m in range(len(sums[0]))
        ]
        self.sums.zero_()
        self._updates = {name: [0] * len(means) for name in LOSSES}
        return means
