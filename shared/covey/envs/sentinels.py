"""Numbers that no environment writes, put where it must write: what still holds them afterwards was forgotten."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLAG = 255
"""The sentinel for flags such as `living` and `present`, which are 0, 1 or 2 once an environment has written them."""

_FLOATS = {2: (6e4, 6.5e4, 10), 4: (1e6, 2e6, 20), 8: (1e299, 2e299, 50)}
"""By bytes of a floating-point number: between which two it is drawn, and bits of what is drawn.

A float64 is so large that rewards added to it leave it as it was.
"""


def parts(array: NDArray[Any]) -> list[tuple[str, NDArray[Any]]]:
    """Return the fields of a structured array, as views by their name; another array is its only part, without name."""
    names = array.dtype.names
    return [("", array)] if names is None else [(name, array[name]) for name in names]


def drawn(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Draw numbers that an environment writes by chance alone."""
    if dtype.names is not None:
        values = np.zeros(shape, dtype)
        for _, part in parts(values):
            part[...] = drawn(part.shape, part.dtype, rng)
        return values
    if dtype.kind == "f":
        low, high, _ = _FLOATS[dtype.itemsize]
        return rng.uniform(low, high, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def bits(dtype: np.dtype[Any]) -> int:
    """How unlikely it is that an environment writes a drawn number by chance: once in 2 to the power of this."""
    if dtype.names is not None:
        return sum(bits(dtype[name].base) * math.prod(dtype[name].shape) for name in dtype.names)
    if dtype.kind == "f":
        return _FLOATS[dtype.itemsize][2]
    return 1 if dtype.kind == "b" else 8 * dtype.itemsize
