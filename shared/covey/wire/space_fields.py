"""Converts spaces to a kind and plain fields, the common form behind both the protobuf messages and JSON.

The names are those of `environment.proto`. Bounds of a Box that are all equal are one number: an image has as many
bounds as it has numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from covey.errors import SpaceError
from covey.spaces import DTYPES, Box, Discrete, MultiBinary, MultiDiscrete, Space
from covey.wire.limits import MAX_CHOICES, MAX_DIMS, MAX_NUMBERS

KINDS = ("box", "discrete", "multi_discrete", "multi_binary")


def space_fields(space: Space) -> tuple[str, dict[str, Any]]:
    """Return the kind of a space, such as "box", and its fields by name."""
    match space:
        case Discrete(n, start):
            return "discrete", {"n": n, "start": start}
        case MultiDiscrete(nvec):
            return "multi_discrete", {"nvec": list(nvec)}
        case MultiBinary(n):
            return "multi_binary", {"n": n}
        case Box(dtype, shape, low, high):
            return "box", {"dtype": dtype, "shape": list(shape), "low": _folded(low), "high": _folded(high)}


def space_from_fields(kind: str, fields: Mapping[str, Any], what: str) -> Space:
    """Make a space from its kind and fields, which may come from elsewhere and are checked; `what` names it in errors.

    Raises:
        SpaceError: an unknown kind or dtype, sizes that are too large, or bounds that are none.
        KeyError, TypeError, ValueError, OverflowError: a field is missing, or no number.
    """
    match kind:
        case "discrete":
            n, start = int(fields["n"]), int(fields["start"])
            if not 1 <= n <= MAX_CHOICES:
                raise SpaceError(f"{what}: Discrete with n={n}, expected 1 to {MAX_CHOICES}")
            if not -(1 << 63) <= start <= (1 << 63) - n:
                raise SpaceError(f"{what}: Discrete from {start} on, expected {n} values that an int64 can hold")
            return Discrete(n, start)
        case "multi_discrete":
            nvec = tuple(int(n) for n in fields["nvec"])
            if not nvec or min(nvec) < 1 or sum(nvec) > MAX_CHOICES:
                raise SpaceError(
                    f"{what}: MultiDiscrete with nvec {nvec[:16]}, expected numbers of at least 1 that sum up to at "
                    f"most {MAX_CHOICES}"
                )
            return MultiDiscrete(nvec)
        case "multi_binary":
            n = int(fields["n"])
            if not 1 <= n <= MAX_CHOICES:
                raise SpaceError(f"{what}: MultiBinary with n={n}, expected 1 to {MAX_CHOICES}")
            return MultiBinary(n)
        case "box":
            return _box(fields, what)
    raise SpaceError(f"{what}: kind {kind!r}, expected one of {', '.join(KINDS)}")


def _box(fields: Mapping[str, Any], what: str) -> Box:
    """Make a Box from its fields, which may come from elsewhere and are checked; `what` names it in errors."""
    dtype, shape = fields["dtype"], tuple(int(n) for n in fields["shape"])
    if dtype not in DTYPES:
        raise SpaceError(f"{what}: dtype {str(dtype)[:40]!r}, expected one of {', '.join(sorted(DTYPES))}")
    if len(shape) > MAX_DIMS or min(shape, default=1) < 1 or math.prod(shape) > MAX_NUMBERS:
        raise SpaceError(
            f"{what}: shape {shape[:16]}, expected at most {MAX_DIMS} dimensions and 1 to {MAX_NUMBERS} numbers; "
            "wrap the environment: one number that never changes where there is nothing to see, or fewer numbers"
        )
    width = math.prod(shape)
    low, high = (_unfolded(fields[side], width, what) for side in ("low", "high"))
    if not np.less_equal(low, high).all():  # false for NaN too
        raise SpaceError(f"{what}: a lower bound is above its upper bound or not a number")
    return Box(dtype, shape, low, high)


def _folded(bounds: Sequence[float]) -> list[float]:
    """Return one number where all bounds of a Box are the same, else all of them."""
    # Compared as text: 0.0 == -0.0, but the space that is read shall equal the one written to the bit.
    return list(bounds[:1] if len(set(map(repr, bounds))) == 1 else bounds)


def _unfolded(bounds: Sequence[Any], width: int, what: str) -> tuple[float, ...]:
    """Return a bound for each of a Box's `width` numbers, given as many bounds or one for all."""
    if len(bounds) not in (1, width):
        raise SpaceError(f"{what}: {len(bounds)} bounds, expected one or {width}")
    values = tuple(float(b) for b in bounds)
    return values * width if len(values) == 1 else values
