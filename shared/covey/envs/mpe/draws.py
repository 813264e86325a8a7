"""Draws what begins an episode: of many seeds at once, exactly as Gymnasium's generator of each seed would.

An episode takes a few small integers first and then uniform numbers. Gymnasium makes a generator for every seed
(`gymnasium.utils.seeding.np_random`: PCG64, seeded through numpy's SeedSequence), which takes longer than the numbers
do. The same arithmetic over arrays of seeds takes a fraction of that. numpy promises that SeedSequence and PCG64 stay
as they are; a test compares what is drawn from them.

Dims: R seeds, n numbers of each, K integers of each.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Wide = tuple[Words, Words]
"""Numbers of 128 bits: their high and low halves."""

FEW = 12
"""Up to so many seeds are faster one by one."""

_MASK32 = np.uint64(0xFFFFFFFF)
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # of PCG64's state
_BITS = 128


def draw_exactly(seeds: Sequence[int], choices: Sequence[int], n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw what Gymnasium's generators of these seeds give first.

    Args:
        seeds: R seeds, integers of at least 0.
        choices: For each of K integers, from how many it is drawn (`integers(choices[k])`).
        n: How many numbers in [0, 1) are drawn after them.

    Returns:
        The integers (K, R), and the numbers (n, R).
    """
    if len(seeds) <= FEW or max(seeds) >= 2**64 or min(seeds) < 0:
        return _one_by_one(seeds, choices, n)
    drawn = [k for k, choice in enumerate(choices) if choice > 1]  # one of 1 takes no bits
    words = -(-len(drawn) // 2)  # integers take 32 bits each
    raw = _pcg64(_seed_words(np.array(seeds, np.uint64)), words + n)
    integers = np.zeros((len(choices), len(seeds)), np.int64)
    unclear = np.zeros(len(seeds), np.bool_)
    for i, k in enumerate(drawn):
        scaled = (raw[i // 2] >> np.uint64(32 * (i % 2)) & _MASK32) * np.uint64(choices[k])
        integers[k] = scaled >> np.uint64(32)
        # Here numpy draws again, so that all integers are equally likely: once in 2**32 / choice.
        unclear |= (scaled & _MASK32) < np.uint64(2**32 % choices[k])
    numbers = (raw[words:] >> np.uint64(11)).astype(np.float64) * 2.0**-53
    for r in np.flatnonzero(unclear).tolist():
        integers[:, [r]], numbers[:, [r]] = _one_by_one([seeds[r]], choices, n)
    return integers, numbers


def draw_together(
    seed: int, count: int, choices: Sequence[int], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw the beginnings of `count` episodes from one generator; arguments and results as of `draw_exactly`."""
    rng = np.random.default_rng(seed)
    integers = np.empty((len(choices), count), np.int64)
    for k, choice in enumerate(choices):
        integers[k] = rng.integers(choice, size=count)
    return integers, rng.random((n, count))


def _one_by_one(seeds: Sequence[int], choices: Sequence[int], n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw the beginnings of episodes with one numpy generator for each seed; the slow form of `draw_exactly`."""
    integers, numbers = np.empty((len(choices), len(seeds)), np.int64), np.empty((n, len(seeds)))
    for r, seed in enumerate(seeds):
        rng = np.random.Generator(np.random.PCG64(seed))
        integers[:, r] = [rng.integers(choice) for choice in choices]
        numbers[:, r] = rng.random(n)
    return integers, numbers


def _seed_words(seeds: Words) -> Words:
    """Four words of 64 bits for each seed, as `SeedSequence(seed).generate_state(4, np.uint64)`: (4, R)."""
    hashes = _hash_constants(0x43B0D7E5, 0x931E8875, 17)
    words = np.zeros((4, len(seeds)), np.uint32)
    words[0], words[1] = seeds & _MASK32, seeds >> np.uint64(32)
    pool = _hashed(words, hashes[:5])
    for source in range(4):  # each word of the pool is mixed into the three others
        others = [i for i in range(4) if i != source]
        mixed = _hashed(pool[source], hashes[4 + 3 * source : 8 + 3 * source])
        mixed = pool[others] * np.uint32(0xCA01F9DD) - mixed * np.uint32(0x4973F715)
        pool[others] = mixed ^ mixed >> np.uint32(16)
    halves = _hashed(np.concatenate([pool, pool]), _hash_constants(0x8B51F9DD, 0x58F38DED, 9)).astype(np.uint64)
    return halves[1::2] << np.uint64(32) | halves[::2]


def _hashed(words: NDArray[np.uint32], constants: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash rows of words (or one row in several ways), each with two constants of which the next row takes one."""
    words = (words ^ constants[:-1]) * constants[1:]
    return words ^ words >> np.uint32(16)


@functools.cache
def _hash_constants(first: int, factor: int, count: int) -> NDArray[np.uint32]:
    """The constants with which SeedSequence hashes one word after another, as a column: (count, 1)."""
    return np.array([[first * pow(factor, i, 2**32) % 2**32] for i in range(count)], np.uint32)


def _pcg64(words: Words, n: int) -> Words:
    """The first n words of 64 bits of the PCG64 generators that have these seed words: (n, R)."""
    start: Wide = words[0], words[1]
    # The increment is the second half of the seed words, shifted left by one, with a 1 at the end.
    one = np.uint64(1)
    step: Wide = words[2] << one | words[3] >> np.uint64(63), words[3] << one | one
    of_start, of_step = _jumps(n)
    high, low = _add(_multiply(start, of_start), _multiply(step, of_step))
    mixed, turn = high ^ low, high >> np.uint64(58)
    back = (np.uint64(64) - turn) & np.uint64(63)
    rotated: Words = np.bitwise_or(mixed >> turn, mixed << back)
    return rotated


@functools.cache
def _jumps(n: int) -> tuple[Wide, Wide]:
    """Factors of start and step in the first n states, as columns.

    A state is the one before times a multiplier, plus the step. Seeding makes two such moves, from 0, and adds the
    start between them; every number is read after one more.
    """
    powers = [pow(_MULTIPLIER, i, 2**_BITS) for i in range(n + 2)]
    return _wide(powers[2:]), _wide([sum(powers[: i + 3]) % 2**_BITS for i in range(n)])


def _wide(numbers: Sequence[int]) -> Wide:
    high = np.array([[number >> 64] for number in numbers], np.uint64)
    return high, np.array([[number & (2**64 - 1)] for number in numbers], np.uint64)


def _add(a: Wide, b: Wide) -> Wide:
    low = a[1] + b[1]
    return a[0] + b[0] + (low < a[1]), low


def _multiply(a: Wide, b: Wide) -> Wide:
    half = np.uint64(32)
    (a1, a0), (b1, b0) = (a[1] >> half, a[1] & _MASK32), (b[1] >> half, b[1] & _MASK32)
    middle = a1 * b0 + (a0 * b0 >> half)  # at most 2**64 - 2**32
    other = a0 * b1 + (middle & _MASK32)
    carried = a1 * b1 + (middle >> half) + (other >> half)
    return carried + a[0] * b[1] + a[1] * b[0], a[1] * b[1]
