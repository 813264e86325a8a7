"""Hyperparameters of all population members as vectors on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from covey_server.packing.recently_used import RecentlyUsed

KEPT_INDICES = 64
"""Combinations of members whose indices stay on the device; members fall due in few."""


class MemberVectors:
    """For each hyperparameter that updates compute with, one vector with a value for each population member.

    Args:
        values: By name, one number for each member of the population; integers become int64, other numbers float32.
        device: Where updates are computed.

    Attributes:
        vectors: By name, (members of the population,).
    """

    def __init__(self, values: Mapping[str, Sequence[float]], device: torch.device) -> None:
        self._device = device
        self.vectors: dict[str, Tensor] = {}
        for name, numbers in values.items():
            whole = all(isinstance(number, int) for number in numbers)
            self.vectors[name] = torch.tensor(numbers, dtype=torch.int64 if whole else torch.float32).to(device)
        self._members = len(next(iter(self.vectors.values())))
        self._indices = RecentlyUsed[tuple[int, ...], Tensor](KEPT_INDICES)

    def of(self, name: str, chosen: tuple[int, ...]) -> Tensor:
        """Return the values of one hyperparameter for some members, one number each.

        Args:
            name: One of `values`.
            chosen: Their positions in the population, ascending.
        """
        vector = self.vectors[name]
        return vector if len(chosen) == self._members else vector.index_select(0, self.index(chosen))

    def index(self, places: tuple[int, ...]) -> Tensor:
        """Return positions as an int64 tensor on the device, the same tensor again for positions asked for lately.

        A recorded update reads it at a fixed place in memory.
        """
        return self._indices.get(
            places, lambda: torch.tensor(places, dtype=torch.int64).to(self._device, non_blocking=True)
        )
