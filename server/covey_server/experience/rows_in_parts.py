"""Rows of one column that stay in the messages that they came in, for columns too large to be copied together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class RowsInParts:
    """Rows of a column in several arrays, read by their numbers as if they were one array.

    Example: of parts with 3 and 2 rows, `[np.array([0, 4])]` copies the first row of the first part and the last row of
    the second one.

    Args:
        parts: The arrays, of one dtype and one shape of a row; not copied.
    """

    def __init__(self, parts: Sequence[NDArray[np.generic]]) -> None:
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def of_agent(self, n: int) -> RowsInParts:
        """Return the rows of one agent of a group, of rows that have those of all its agents."""
        return RowsInParts([part[:, n] for part in self._parts])

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Copy the rows of these numbers."""
        first = self._parts[0]
        result = np.empty((len(rows), *first.shape[1:]), first.dtype)
        whose = np.searchsorted(self._ends, rows, side="right")
        for i in np.unique(whose):
            at, part = np.flatnonzero(whose == i), self._parts[i]
            result[at] = part[rows[at] - (self._ends[i] - len(part))]
        return result
