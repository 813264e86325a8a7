"""Compares results that were computed in two ways: bit for bit, or within rounding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RELATIVE = 1e-3
"""Where results need not be equal to the bit: the largest difference, in units of the largest number of a tensor.
Rounding in another order moves gradients by 1e-6 to 1e-5 of it, a wrong operation by far more."""

TINY = 1e-6
"""A difference that counts in no tensor."""


def same(one: Sequence[Tensor], other: Sequence[Tensor], *, exact: bool) -> bool:
    """Whether two lists of tensors are equal in pairs: bit for bit (so that NaN equals NaN), or within rounding."""
    return len(one) == len(other) and all(_same(x, y, exact) for x, y in zip(one, other, strict=True))


def _same(x: Tensor, y: Tensor, exact: bool) -> bool:
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if exact or not x.is_floating_point():
        return torch.equal(_bits(x), _bits(y))
    largest = float(y.nan_to_num().abs().amax()) if y.numel() else 0.0
    return torch.allclose(x, y, rtol=0.0, atol=RELATIVE * largest + TINY, equal_nan=True)


def _bits(x: Tensor) -> Tensor:
    return x.reshape(-1).contiguous().view(torch.uint8)
