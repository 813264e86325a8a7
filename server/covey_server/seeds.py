"""Named random streams: every draw of a run follows from one seed and the names of what it is for."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit number for (seed, names): the same on every machine, unrelated for different names."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator of its own for (seed, names)."""
    return np.random.default_rng(derive(seed, *names))
