"""The torch form of `covey.observations`."""

from __future__ import annotations

import torch
from torch import Tensor

from covey.observations import ObservationEncoding
from covey.spaces import Space


class TorchEncoding:
    """Encodes stored observations of one space on a device."""

    def __init__(self, space: Space, device: torch.device | str = "cpu") -> None:
        e = ObservationEncoding.of(space)
        self.numbers, self.width, self.plain = e.numbers, e.width, e.plain
        self._low, self._scale, self._values, self._place = (
            None if array is None else torch.from_numpy(array).to(device)
            for array in (e.low, e.scale, e.values, e.place)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(..., n * numbers) of n agents side by side, in their own dtype, as (..., n * width) float32."""
        if self.plain:
            return x.float()
        x = x.reshape(*x.shape[:-1], -1, self.numbers)
        if self._values is not None and self._place is not None:
            y = (x.index_select(-1, self._place) == self._values).float()
        else:
            assert self._low is not None and self._scale is not None
            y = (x.float() - self._low) * self._scale
        return y.flatten(-2)
