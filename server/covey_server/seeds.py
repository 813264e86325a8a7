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


def episode_seeds(seed: int, purpose: str, generation: int, count: int) -> list[int]:
    """Derive the seeds of evaluation episodes, all different, which are the first of any larger number of them.

    They have 30 bits: some environments pass their seed to libraries that take no more than 31, and the seeds from 2^30
    on are those of `covey evaluate`. Of so few numbers one is drawn twice now and then, and left out.

    Args:
        seed: The run's seed.
        purpose: What the episodes are for, such as "fitness".
        generation: The generation that is evaluated.
        count: How many seeds.
    """
    seeds: dict[int, None] = {}  # ordered, as a set is not
    k = 0
    while len(seeds) < count:
        seeds[derive(seed, purpose, generation, k) & 0x3FFFFFFF] = None
        k += 1
    return list(seeds)


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator whose seed is derived from a run's seed and the names of what it draws for."""
    return np.random.default_rng(derive(seed, *names))
