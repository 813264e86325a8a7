"""Random number generators derived from a run's seed and the name of their purpose, so that draws are repeatable."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """Derive a seed from a run's seed and names.

    Returns:
        A number of 63 bits from a hash: the same on every machine, and independent for different names.
    """
    # A separator that no name contains: ("a", "bc") and ("ab", "c") must not give the same text.
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator whose seed is derived from a run's seed and the names of what it draws for."""
    return np.random.default_rng(derive(seed, *names))
