"""Settings by dotted key, such as `algorithm.lr`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def dotted(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a nested mapping by dotted key; lists, and mappings of other keys than texts, are values."""
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        for key, inner in value.items():
            yield from dotted(inner, f"{prefix}{key}.")
    elif prefix:
        yield prefix.removesuffix("."), value
