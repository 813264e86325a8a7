"""Places all intermediate results of a recorded update in one block of memory.

A place is used again as soon as the result in it was read for the last time.

Example, of four operations on results of one size:

    a = x + 1      life 0 to 3      offset 0
    b = a * 2      life 1 to 2      offset 64
    c = tanh(b)    life 2 to 3      written over b, element by element: offset 64
    d = a + c      life 3 to 4      written over a: offset 0          a block of 128 bytes, not of 256
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from covey_server.packing.updates.trace import Operation, storage

ALIGNMENT = 64
"""Bytes of a cache line."""


@dataclass
class Life:
    """How long some memory is needed: its size in bytes, and the operations that first write and last read it."""

    size: int
    first: int
    last: int
    offset: int = field(default=0)


def lives_of(operations: Sequence[Operation], outputs: Sequence[Tensor]) -> dict[int, Life]:
    """Find how long the memory of each intermediate result is needed, by the identity of its storage.

    Args:
        operations: In order.
        outputs: Results that are read after the last operation.
    """
    last = {storage(x): i for i, operation in enumerate(operations) for x in operation.read + operation.results}
    last |= {storage(x): len(operations) for x in outputs}
    lives: dict[int, Life] = {}
    for i, operation in enumerate(operations):
        for x in () if operation.in_place else operation.results:
            life = _overwritten(operation, i, lives) or Life(x.untyped_storage().nbytes(), i, i)
            life.last = max(life.last, last[storage(x)])
            lives[storage(x)] = life
    return lives


def _overwritten(operation: Operation, i: int, lives: dict[int, Life]) -> Life | None:
    """Return the memory that an elementwise operation reads for the last time, if its result can be written over it."""
    if torch.Tag.pointwise not in operation.function.tags or len(operation.results) > 1:
        return None
    for x in operation.read:
        life = lives.get(storage(x))
        if life is not None and life.last == i:
            views = [y for y in operation.read if lives.get(storage(y)) is life]
            if all(_alike(y, operation.results[0]) for y in views):
                return life
    return None


def _alike(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and strides, and fill all the memory that they are views of."""
    same = (x.dtype, x.shape, x.stride()) == (y.dtype, y.shape, y.stride())
    return same and x.untyped_storage().nbytes() == y.untyped_storage().nbytes() == x.nbytes


def place(lives: Iterable[Life]) -> int:
    """Give each piece of memory an offset in one block: the largest first, in the lowest gap free while it is needed.

    Returns:
        Bytes of the whole block.
    """
    placed: list[Life] = []  # by offset
    for life in sorted({id(life): life for life in lives}.values(), key=lambda life: -life.size):
        size = _aligned(life.size)
        at = 0
        for other in placed:
            if other.last < life.first or life.last < other.first:
                continue
            if other.offset >= at + size:
                break
            at = max(at, other.offset + _aligned(other.size))
        life.offset = at
        insort(placed, life, key=lambda other: other.offset)
    return max((life.offset + _aligned(life.size) for life in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
