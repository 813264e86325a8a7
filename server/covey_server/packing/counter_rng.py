"""Random numbers without a state: each draw is a function of what it is for.

A member's key comes from (seed, member_id, its update count); a draw from (key, stream name, element). So an update
draws the same numbers whoever shares its pack, whatever the padded batch size, and after a restart. Keys and draws are
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
    """Where a stream begins in SplitMix64's sequence, relative to a key: the FNV-1a hash of its name."""
    word = 0xCBF29CE484222325
    for letter in stream:
        word = ((word ^ ord(letter)) * 0x100000001B3) & _MASK
    return _signed(word)


@functools.lru_cache(maxsize=64)
def _elements(stream: str, n: int, device: torch.device) -> Tensor:
    """(1, n) where the elements of a stream stand, relative to a key."""
    places = torch.arange(n, device=device).mul_(_signed(_GOLDEN)).add_(_start(stream))
    return places.unsqueeze(0)


def _signed(word: int) -> int:
    """The int64 of the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


def _splitmix(x: int) -> int:
    """SplitMix64's output function after one step of its counter, on 64 bits."""
    x = (x + _GOLDEN) & _MASK
    for shift, factor in _ROUNDS:
        x = ((x ^ (x >> shift)) * factor) & _MASK
    return x ^ (x >> 31)


@functools.lru_cache(maxsize=4096)
def _member_key(seed: int, member_id: int) -> int:
    return _splitmix(_splitmix(seed) ^ member_id)


def keys(seed: int, member_ids: Sequence[int], updates: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """One 64-bit key per member, (M,) int64 on the device, from its id and its update count."""
    words = [_splitmix(_member_key(seed, m) ^ u) for m, u in zip(member_ids, updates, strict=True)]
    return torch.tensor([_signed(w) for w in words], dtype=torch.int64).to(device, non_blocking=True)


def bits(keys: Tensor, stream: str, n: int, count: int = 32) -> Tensor:
    """(M, n) int64 of so many random bits each, uniform over 0 ... 2**count - 1."""
    x = _elements(stream, n, keys.device) + keys.unsqueeze(1)
    for shift, factor in _ROUNDS:
        # Without the sign that the shift brings in.
        x.bitwise_xor_(x.bitwise_right_shift(shift).bitwise_and_(_MASK >> shift)).mul_(_signed(factor))
    return x.bitwise_right_shift_(64 - count).bitwise_and_((1 << count) - 1)


def uniform(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) float32 in the open interval (0, 1), in steps of 2**-23."""
    return bits(keys, stream, n, 23).to(torch.float32).add_(0.5).mul_(2.0**-23)


def integers(keys: Tensor, stream: str, n: int, high: int) -> Tensor:
    """(M, n) int64, uniform over 0 ... high - 1 with a bias below high / 2**32; high at most 2**31."""
    return bits(keys, stream, n).mul_(high).bitwise_right_shift_(32)


def normal(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) float32 standard normal draws (Box-Muller; an element takes two uniform numbers for itself)."""
    radius, angle = uniform(keys, stream, 2 * n).view(-1, n, 2).unbind(-1)
    # Logarithms of neighbours take a tenth of the time.
    return (angle * (2 * math.pi)).cos_().mul_(radius.contiguous().log_().mul_(-2).sqrt_())


def gumbel(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) float32 draws of the standard Gumbel distribution."""
    return uniform(keys, stream, n).log_().neg_().log_().neg_()
