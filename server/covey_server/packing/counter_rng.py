"""Random numbers without a state: each draw is a function of what it is for.

A member's key comes from (seed, member_id, its update count); a draw from (key, stream name, element). So an update
draws the same numbers whoever else learns, whatever the padded batch size, and after a restart. Keys and draws are
SplitMix64 (Sebastiano Vigna, public domain): keys of small numbers that the host knows, draws the upper halves of what
follows key and stream in its sequence, in int64 arithmetic that every torch device has.

Dims: M members, n draws each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _start(stream: str) -> int:
    """Return where a named stream of random numbers begins in SplitMix64's sequence: the FNV-1a hash of its name.

    The place is relative to the key (the generator's start value), to which it is added.
    """
    word = 0xCBF29CE484222325
    for letter in stream:
        word = ((word ^ ord(letter)) * 0x100000001B3) & _MASK
    return _signed(word)


@functools.lru_cache(maxsize=64)
def _elements(stream: str, n: int, device: torch.device) -> Tensor:
    """Return the counters of a stream's first n random numbers, (1, n) int64; plus a key, they are what is hashed."""
    places = torch.arange(n, device=device).mul_(_signed(_GOLDEN)).add_(_start(stream))
    return places.unsqueeze(0)


def _signed(word: int) -> int:
    """Reinterpret an unsigned 64-bit number as the int64 of the same bits."""
    return word - (1 << 64) if word >> 63 else word


def _splitmix(x: int) -> int:
    """Add SplitMix64's increment to a 64-bit number and return the generator's scrambled output for it."""
    x = (x + _GOLDEN) & _MASK
    for shift, factor in _ROUNDS:
        x = ((x ^ (x >> shift)) * factor) & _MASK
    return x ^ (x >> 31)


@functools.lru_cache(maxsize=4096)
def _member_key(seed: int, member_id: int) -> int:
    return _splitmix(_splitmix(seed) ^ member_id)


def keys(seed: int, member_ids: Sequence[int], updates: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Return a random 64-bit key per population member, (M,) int64, from the seed, its id and its update count."""
    words = [_splitmix(_member_key(seed, m) ^ u) for m, u in zip(member_ids, updates, strict=True)]
    return torch.tensor([_signed(w) for w in words], dtype=torch.int64).to(device, non_blocking=True)


def bits(keys: Tensor, stream: str, n: int, count: int = 32) -> Tensor:
    """Draw n integers of `count` random bits for each of M keys, (M, n) int64, uniform over 0 ... 2**count - 1.

    Equal keys and an equal stream name give equal draws.
    """
    x = _elements(stream, n, keys.device) + keys.unsqueeze(1)
    for shift, factor in _ROUNDS:
        # Without the sign that the shift brings in.
        x.bitwise_xor_(x.bitwise_right_shift(shift).bitwise_and_(_MASK >> shift)).mul_(_signed(factor))
    return x.bitwise_right_shift_(64 - count).bitwise_and_((1 << count) - 1)


def uniform(keys: Tensor, stream: str, n: int) -> Tensor:
    """Draw n numbers for each of M keys, (M, n) float32, uniform in the open interval (0, 1) in steps of 2**-23."""
    return bits(keys, stream, n, 23).to(torch.float32).add_(0.5).mul_(2.0**-23)


def integers(keys: Tensor, stream: str, n: int, high: int) -> Tensor:
    """Draw n integers for each of M keys, (M, n) int64, uniform over 0 ... high - 1; high may be at most 2**31.

    The bias is below high / 2**32.
    """
    return bits(keys, stream, n).mul_(high).bitwise_right_shift_(32)


def normal(keys: Tensor, stream: str, n: int) -> Tensor:
    """Draw n standard normal numbers for each of M keys, (M, n) float32 (Box-Muller, from two uniform numbers each)."""
    radius, angle = uniform(keys, stream, 2 * n).view(-1, n, 2).unbind(-1)
    # Logarithms of neighbours take a tenth of the time.
    return (angle * (2 * math.pi)).cos_().mul_(radius.contiguous().log_().mul_(-2).sqrt_())


def gumbel(keys: Tensor, stream: str, n: int) -> Tensor:
    """Draw n numbers of the standard Gumbel distribution for each of M keys, (M, n) float32."""
    return uniform(keys, stream, n).log_().neg_().log_().neg_()


def logistic(keys: Tensor, stream: str, n: int) -> Tensor:
    """Draw n numbers of the standard logistic distribution for each of M keys, (M, n) float32."""
    u = uniform(keys, stream, n)
    return u.log().sub_(u.neg_().log1p_())
