"""Random numbers without a state: each draw is a function of what it is for.

A member's key comes from (seed, member_id, its update count); a draw from (key, stream name, element). So an update
draws the same numbers whoever shares its pack, whatever the padded batch size, and after a restart. Draws are the
32-bit finaliser of MurmurHash3 (Austin Appleby, public domain), two rounds over a 64-bit key, in int64 arithmetic that
every torch device has; keys are SplitMix64 (Sebastiano Vigna, public domain) of small numbers that the host knows.

Dims: M members, n draws each.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B9


def _finalise_(x: Tensor) -> Tensor:
    """MurmurHash3's fmix32 on values of 32 bits held in int64; in place."""
    x.bitwise_xor_(x >> 16).mul_(0x85EBCA6B).bitwise_and_(_MASK)
    x.bitwise_xor_(x >> 13).mul_(0xC2B2AE35).bitwise_and_(_MASK)
    return x.bitwise_xor_(x >> 16)


@functools.cache
def _word(stream: str) -> int:
    return zlib.crc32(stream.encode())


@functools.lru_cache(maxsize=64)
def _elements(n: int, device: torch.device) -> Tensor:
    """(1, n) element numbers, spread over 32 bits."""
    return (torch.arange(n, device=device) * _GOLDEN).bitwise_and_(_MASK).unsqueeze(0)


def _splitmix(x: int) -> int:
    """SplitMix64's output function after one step of its counter, on 64 bits."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
    return x ^ (x >> 31)


@functools.lru_cache(maxsize=4096)
def _member_key(seed: int, member_id: int) -> int:
    return _splitmix(_splitmix(seed) ^ member_id)


def keys(seed: int, member_ids: Sequence[int], updates: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """One 64-bit key per member, (M,) int64 on the device, from its id and its update count."""
    words = [_splitmix(_member_key(seed, m) ^ u) for m, u in zip(member_ids, updates, strict=True)]
    signed = [w - (1 << 64) if w >> 63 else w for w in words]
    return torch.tensor(signed, dtype=torch.int64).to(device, non_blocking=True)


def bits(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) int64, uniform over 0 ... 2**32 - 1."""
    x = _elements(n, keys.device) + (keys & _MASK).unsqueeze(1)
    x = _finalise_(x.bitwise_and_(_MASK))
    x.bitwise_xor_((((keys >> 32) & _MASK) ^ _word(stream)).unsqueeze(1))
    # fmix32 leaves 0 where it is and is a bijection: the golden number moves that point between the rounds.
    return _finalise_(x.add_(_GOLDEN).bitwise_and_(_MASK))


def uniform(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) float32 in the open interval (0, 1), in steps of 2**-23."""
    return (bits(keys, stream, n) >> 9).to(torch.float32).add_(0.5).mul_(2.0**-23)


def integers(keys: Tensor, stream: str, n: int, high: int) -> Tensor:
    """(M, n) int64, uniform over 0 ... high - 1 with a bias below high / 2**32; high at most 2**31."""
    return bits(keys, stream, n).mul_(high).bitwise_right_shift_(32)


def normal(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) float32 standard normal draws (Box-Muller; an element takes two uniform numbers for itself)."""
    radius, angle = uniform(keys, stream, 2 * n).view(-1, n, 2).unbind(-1)
    return (angle * (2 * math.pi)).cos_().mul_(radius.log().mul_(-2).sqrt_())


def gumbel(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) float32 draws of the standard Gumbel distribution."""
    return uniform(keys, stream, n).log_().neg_().log_().neg_()
