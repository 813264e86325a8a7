"""Selects rows of matrices: rows that are neighbours are used in place, scattered ones are copied out and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class RowIndex:
    """Selects some of the rows of any matrix, by their numbers.

    Args:
        numbers: Which rows, ascending.
        device: Where the matrices live.

    Attributes:
        numbers: The same.
        at: What indexes a matrix: a slice where the rows are neighbours, int64 numbers on the device otherwise.
    """

    def __init__(self, numbers: Sequence[int] | NDArray[np.int64], device: torch.device) -> None:
        self.numbers: NDArray[np.int64] = np.asarray(numbers, np.int64)
        first, behind = (int(self.numbers[0]), int(self.numbers[-1]) + 1) if len(self.numbers) else (0, 0)
        neighbours = behind - first == len(self.numbers)
        self.at: slice | Tensor = (
            slice(first, behind) if neighbours else torch.from_numpy(self.numbers).to(device, non_blocking=True)
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, matrix: Tensor) -> Tensor:
        """Return the selected rows of a matrix: a view where they are neighbours, a copy otherwise."""
        return matrix[self.at] if isinstance(self.at, slice) else matrix.index_select(0, self.at)

    def put(self, matrix: Tensor, values: Tensor) -> None:
        """Write changed values of the selected rows back; where `take` gave a view, the matrix has them already."""
        if not isinstance(self.at, slice):
            matrix.index_copy_(0, self.at, values)
