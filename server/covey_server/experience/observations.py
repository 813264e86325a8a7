"""Encodes stored observations in torch as networks read them; `covey.observations` does the same in numpy."""

from __future__ import annotations

import torch
from torch import Tensor

from covey.observations import LeafEncoding
from covey.spaces import LeafSpace


class TorchEncoding:
    """Encodes observations of one space without parts: Discrete as one-hot, bounded integers of a Box mapped to [0, 1].

    Args:
        space: The observation space of one agent.
        device: Where the encoded observations are needed.

    Attributes:
        numbers: How many numbers one agent's observation has as stored.
        width: How many it has encoded.
        plain: Whether encoding changes nothing but the dtype.
    """

    def __init__(self, space: LeafSpace, device: torch.device | str = "cpu") -> None:
        e = LeafEncoding.of(space)
        self.numbers, self.width, self.plain = e.numbers, e.width, e.plain
        self._low, self._scale, self._values, self._place = (
            None if array is None else torch.from_numpy(array).to(device)
            for array in (e.low, e.scale, e.values, e.place)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Encode the observations of n agents whose numbers lie side by side.

        Args:
            x: (..., n * numbers) in the space's dtype.

        Returns:
            (..., n * width) float32.
        """
        if self.plain:
            return x.float()
        x = x.reshape(*x.shape[:-1], -1, self.numbers)
        if self._values is not None and self._place is not None:
            # Each encoded number is 1 where its value equals that of the stored number that it stands for.
            y = (x.index_select(-1, self._place) == self._values).float()
        else:
            assert self._low is not None and self._scale is not None
            y = x.float().sub_(self._low).mul_(self._scale)  # in place: integers, so that `float` has made a copy
        return y.flatten(-2)
