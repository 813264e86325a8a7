"""Converts spaces to a kind and plain fields, the common form behind both the protobuf messages and JSON.

The names are those of `environment.proto`. Bounds of a Box that are all equal are one number: an image has as many
bounds as it has numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from covey.errors import SpaceError
from covey.spaces import (
    DTYPES,
    Box,
    DictSpace,
    Discrete,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Space,
    TupleSpace,
    check_names,
)
from covey.wire.limits import MAX_CHOICES, MAX_DEPTH, MAX_DIMS, MAX_ID_CHARACTERS, MAX_LEAVES, MAX_NUMBERS

KINDS = ("box", "discrete", "multi_discrete", "multi_binary", "dict", "tuple")
TREES = ("dict", "tuple")

Parts = Callable[[Any], tuple[str, Mapping[str, Any]]]
"""Takes a space apart that was written somewhere: its kind, and its fields by name. The field `entries` of a tree has
pairs of a name and a space that is still as it was written."""


def space_fields(space: Space) -> tuple[str, dict[str, Any]]:
    """Return the kind of a space, such as "box", and its fields by name; `entries` of a tree are spaces.

    What version 1 does not know is left out wherever it is as version 1 has it.
    """
    match space:
        case DictSpace(entries):
            return "dict", {"entries": entries}
        case TupleSpace(elements):
            return "tuple", {"entries": elements}
        case Discrete(n, start):
            return "discrete", {"n": n, "start": start}
        case MultiDiscrete(nvec, shape, first):
            numbers = {"start": list(first)} if any(first) else {}
            return "multi_discrete", {"nvec": list(nvec)} | _several(shape) | numbers
        case MultiBinary(n, shape):
            return "multi_binary", {"n": n} | _several(shape)
        case Box(dtype, shape, low, high):
            return "box", {"dtype": dtype, "shape": list(shape), "low": _folded(low), "high": _folded(high)}


def space_from_parts(written: Any, parts: Parts, what: str) -> Space:
    """Make a space from how it was written, which may be elsewhere and is checked.

    Args:
        written: The space.
        parts: Takes it apart.
        what: Names it in errors.

    Raises:
        SpaceError: an unknown kind or dtype, sizes that are too large, or bounds that are none.
        KeyError, TypeError, ValueError, OverflowError: a field is missing, or no number.
    """
    count_numbers(written, parts, what)
    space = _space(written, parts, what)
    check_names(space, what)
    return space


def count_numbers(written: Any, parts: Parts, what: str) -> int:
    """Count the numbers in all Boxes of a written space before anything is built of it.

    A bound that was written once is repeated for each number of a Box, so that a short message could fill the memory.
    Arguments and errors are those of `space_from_parts`.
    """
    numbers = 0
    for count, (kind, fields) in enumerate(_leaf_fields(written, parts, what, 0)):
        numbers += math.prod(int(n) for n in list(fields["shape"])[:MAX_DIMS]) if kind == "box" else 0
        if count == MAX_LEAVES or (count and numbers > MAX_NUMBERS):
            raise SpaceError(
                f"{what}: more than {MAX_NUMBERS} numbers or {MAX_LEAVES} arrays, expected at most so many; wrap the "
                "environment so that it gives less"
            )
    return numbers


def _leaf_fields(written: Any, parts: Parts, what: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield kind and fields of each array of a written space, after checking how deep it lies."""
    kind, fields = parts(written)
    if kind not in TREES:
        yield kind, fields
        return
    if depth == MAX_DEPTH:
        raise SpaceError(f"{what}: Dict and Tuple in more than {MAX_DEPTH} levels, expected at most so many")
    for _, entry in fields["entries"]:
        yield from _leaf_fields(entry, parts, what, depth + 1)


def _space(written: Any, parts: Parts, what: str) -> Space:
    """Make a space whose depth was checked."""
    kind, fields = parts(written)
    if kind not in TREES:
        return _leaf(kind, fields, what)
    entries: list[tuple[str, Space]] = []
    for name, entry in fields["entries"]:
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_ID_CHARACTERS or not name.isprintable():
            raise SpaceError(
                f"{what}: entry {str(name)[:40]!r}, expected a name of 1 to {MAX_ID_CHARACTERS} printable characters; "
                "rename it"
            )
        entries.append((name, _space(entry, parts, f"{what}, {name}")))
    if not entries:
        raise SpaceError(f"{what}: {kind} without entries, expected at least one; leave it out")
    return DictSpace(tuple(entries)) if kind == "dict" else TupleSpace(tuple(entry for _, entry in entries))


def _leaf(kind: str, fields: Mapping[str, Any], what: str) -> LeafSpace:
    """Make a space that is no tree from its kind and fields, which are checked; `what` names it in errors."""
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
            first = tuple(int(n) for n in fields.get("start", ()))
            if len(first) not in (0, len(nvec)):
                raise SpaceError(f"{what}: MultiDiscrete with {len(first)} first values, expected {len(nvec)}")
            if not all(-(1 << 63) <= f <= (1 << 63) - n for f, n in zip(first, nvec, strict=False)):
                raise SpaceError(f"{what}: MultiDiscrete from {first[:16]} on, expected values that an int64 can hold")
            return MultiDiscrete(nvec, _shape(fields, len(nvec), what), first)
        case "multi_binary":
            n = int(fields["n"])
            if not 1 <= n <= MAX_CHOICES:
                raise SpaceError(f"{what}: MultiBinary with n={n}, expected 1 to {MAX_CHOICES}")
            return MultiBinary(n, _shape(fields, n, what))
        case "box":
            return _box(fields, what)
    raise SpaceError(f"{what}: kind {str(kind)[:40]!r}, expected one of {', '.join(KINDS)}")


def _several(shape: tuple[int, ...]) -> dict[str, list[int]]:
    """The field for the shape of an array, if it has several dimensions."""
    return {"shape": list(shape)} if len(shape) > 1 else {}


def _shape(fields: Mapping[str, Any], numbers: int, what: str) -> tuple[int, ...]:
    """The shape of an array of so many numbers, of one dimension if the fields have none."""
    shape = tuple(int(n) for n in fields.get("shape", ())) or (numbers,)
    if len(shape) > MAX_DIMS or min(shape) < 1 or math.prod(shape) != numbers:
        raise SpaceError(f"{what}: shape {shape[:16]}, expected at most {MAX_DIMS} dimensions of {numbers} numbers")
    return shape


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
