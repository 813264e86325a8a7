"""Random numbers without a state: each draw is a function of what it is for.

A member's key comes from (seed, member_id, its update count); a draw from (key, stream name, element). So an update
draws the same numbers whoever shares its pack, whatever the padded batch size, and after a restart. The generator is
the 32-bit finaliser of MurmurHash3 (Austin Appleby, public domain), two rounds over a 64-bit key, in int64 arithmetic
that every torch device has.

Dims: M members, n draws each.
"""

from __future__ import annotations

import functools
import math
import zlib

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
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


def keys(seed: int, member_ids: Tensor, updates: Tensor) -> Tensor:
    """One 64-bit key per member, (M,) int64, from its id and its update count, both (M,) int64."""
    low = _finalise_((member_ids * _GOLDEN + (seed & _MASK)) & _MASK)
    low = _finalise_((low + updates) & _MASK)
    high = _finalise_((updates * _GOLDEN + (seed >> 32) + 1) & _MASK)
    high = _finalise_((high + member_ids + (seed & _MASK)) & _MASK)
    return (high << 32) | low


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
    """(M, n) float32 standard normal draws (Box-Muller, one of each pair, so that elements stay independent of n)."""
    radius = uniform(keys, stream + ":radius", n).log_().mul_(-2).sqrt_()
    return uniform(keys, stream + ":angle", n).mul_(2 * math.pi).cos_().mul_(radius)


def gumbel(keys: Tensor, stream: str, n: int) -> Tensor:
    """(M, n) float32 draws of the standard Gumbel distribution."""
    return uniform(keys, stream, n).log_().neg_().log_().neg_()
