"""Keeps what was made for a key as long as the key is among those used last, such as indices on the device."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentlyUsed(Generic[K, V]):
    """Values by key, at most so many: the one that was not used for longest goes first.

    Emptying all of it instead would take from a step of an update what it used a moment ago, and a step that is being
    captured as a CUDA graph can copy nothing to the device anew.

    Args:
        most: How many values are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[K, V] = {}  # the one used last at the end

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value that is kept for a key, or what `make` returns, which is kept from then on."""
        value = self._kept.pop(key) if key in self._kept else make()
        while len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = value
        return value
