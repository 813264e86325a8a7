"""Kinds of observation and action spaces, and what networks and masks have of an action space."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covey.errors import SpaceError

DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)
"""Element types that spaces may have: numbers of a fixed size, no objects and no strings."""


@dataclass(frozen=True, slots=True)
class Box:
    """The space of arrays of bounded numbers; `low` and `high` are flat, in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __repr__(self) -> str:
        low, high = (
            str(b[0]) if len(set(b)) == 1 else f"({', '.join(map(str, b[:4]))}{', ...' * (len(b) > 4)})"
            for b in (self.low, self.high)
        )
        return f"Box({self.dtype}, {self.shape}, {low} to {high})"

    @property
    def width(self) -> int:
        """Numbers in the flattened array, each an input or an output of a network."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Discrete:
    """The space of the `n` integers from `start` on."""

    n: int
    start: int = 0

    dtype = "int64"
    shape = ()

    @property
    def width(self) -> int:
        """Length of the one-hot vector that a network reads, and number of logits that it gives."""
        return self.n


@dataclass(frozen=True, slots=True)
class MultiDiscrete:
    """The space of several choices at once: choice i is one of the `nvec[i]` integers from `start[i]` on.

    Choices may form an array of any shape; all tuples list them in row-major order.

    Attributes:
        nvec: The number of values of each choice.
        shape: Shape of an action or observation; left out: (number of choices,).
        start: The first value of each choice; left out: zeros.
    """

    nvec: tuple[int, ...]
    shape: tuple[int, ...] = ()
    start: tuple[int, ...] = ()

    dtype = "int64"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.shape or (len(self.nvec),))
        object.__setattr__(self, "start", self.start or (0,) * len(self.nvec))

    def __repr__(self) -> str:
        shape = f", shape={self.shape}" * (len(self.shape) > 1)
        return f"MultiDiscrete(nvec={self.nvec}{shape}{f', start={self.start}' * any(self.start)})"

    @property
    def width(self) -> int:
        """Length of the one-hot vectors of all choices, one after another."""
        return sum(self.nvec)


@dataclass(frozen=True, slots=True)
class MultiBinary:
    """The space of `n` switches, numbers that are 0 or 1, in an array of any shape.

    Attributes:
        n: The number of switches.
        shape: Shape of an action or observation; left out: (n,).
    """

    n: int
    shape: tuple[int, ...] = ()

    dtype = "int8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.shape or (self.n,))

    def __repr__(self) -> str:
        return f"MultiBinary(n={self.n}{f', shape={self.shape}' * (len(self.shape) > 1)})"

    @property
    def width(self) -> int:
        """Number of switches, each of which a network reads as one number, or gives one logit for."""
        return self.n


LeafSpace = Box | Discrete | MultiDiscrete | MultiBinary
"""A space whose values are one array of numbers."""


@dataclass(frozen=True, slots=True)
class DictSpace:
    """The space of dictionaries: a name and a space for each entry, in order. Entries may be dictionaries or tuples."""

    entries: tuple[tuple[str, Space], ...]

    shape = ()

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The structured dtype of a value: a field for each leaf, by its dotted name."""
        return _structured(self)

    def __repr__(self) -> str:
        return f"Dict({', '.join(f'{name}: {space}' for name, space in self.entries)})"

    @property
    def width(self) -> int:
        """Numbers that a network reads of all entries together, or gives for them."""
        return sum(space.width for _, space in self.entries)


@dataclass(frozen=True, slots=True)
class TupleSpace:
    """The space of tuples: a space for each element. Elements may be dictionaries or tuples."""

    entries: tuple[Space, ...]

    shape = ()

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The structured dtype of a value: a field for each leaf, by its dotted name."""
        return _structured(self)

    def __repr__(self) -> str:
        return f"Tuple({', '.join(map(str, self.entries))})"

    @property
    def width(self) -> int:
        """Numbers that a network reads of all elements together, or gives for them."""
        return sum(space.width for space in self.entries)


Space = Box | Discrete | MultiDiscrete | MultiBinary | DictSpace | TupleSpace
"""An observation or action space: one array, or a tree of dictionaries and tuples whose leaves are arrays.

Values of a tree are held in structured numpy arrays, so that every space has a `dtype` and a `shape`.
"""


@dataclass(frozen=True, slots=True)
class Leaf:
    """An array within a space that is a tree.

    Attributes:
        name: Keys and indices on the way to it, joined by dots: `image`, `inventory.0`; "" if the space is no tree.
        space: The space of the array.
        path: The same keys and indices, by which a value of the tree is subscripted one after another.
    """

    name: str
    space: LeafSpace
    path: tuple[str | int, ...] = ()


def leaves(space: Space) -> tuple[Leaf, ...]:
    """Return the arrays that make up a space, in order; a space that is no tree is its only leaf, without a name.

    Dictionaries are gone through in their own order, tuples by index.
    """
    return tuple(_leaves(space, ()))


def _structured(space: DictSpace | TupleSpace) -> np.dtype[np.void]:
    """Return the structured dtype of a tree's values, aligned."""
    return np.dtype([(leaf.name, leaf.space.dtype, leaf.space.shape) for leaf in leaves(space)], align=True)


def _leaves(space: Space, path: tuple[str | int, ...]) -> Iterator[Leaf]:
    """Yield the leaves of a space that lies at this path in another."""
    match space:
        case DictSpace(entries):
            for name, entry in entries:
                yield from _leaves(entry, (*path, name))
        case TupleSpace(elements):
            for i, element in enumerate(elements):
                yield from _leaves(element, (*path, i))
        case _:
            yield Leaf(".".join(map(str, path)), space, path)


MASK_KEY = "action_mask"
"""Key of action masks (1: legal), in observations that are dictionaries, or in infos."""

FORCED_KEY = "env_defined_actions"
"""Key in an agent's info for the action that the environment takes in the agent's place."""


def mask_width(action: Space) -> int:
    """Return the length of an action mask: one number for each value of each discrete choice, leaf after leaf.

    Raises:
        SpaceError: actions that cannot be masked.
    """
    width = sum(leaf.space.width for leaf in leaves(action) if isinstance(leaf.space, Discrete | MultiDiscrete))
    if not width:
        what = type(action).__name__.removesuffix("Space")
        raise SpaceError(f"action mask: for {what} actions, expected Discrete or MultiDiscrete ones among them")
    return width


def masked_choices(action: Space) -> tuple[tuple[int, int], ...]:
    """Return number of values and first value of each choice that a mask is about, in the mask's order."""
    found: list[tuple[int, int]] = []
    for leaf in leaves(action):
        match leaf.space:
            case Discrete(n, start):
                found.append((n, start))
            case MultiDiscrete(nvec, _, starts):
                found += zip(nvec, starts, strict=True)
    return tuple(found)


def choices(action: Space) -> tuple[int, ...]:
    """Return how many values each choice of an action has: (n,) for Discrete, (2, 2, ...) for MultiBinary.

    A Box has no choices: (). A tree has those of its leaves, one after another.
    """
    found: list[int] = []
    for leaf in leaves(action):
        match leaf.space:
            case Discrete(n):
                found.append(n)
            case MultiDiscrete(nvec):
                found += nvec
            case MultiBinary(n):
                found += (2,) * n
    return tuple(found)


def has_box(action: Space) -> bool:
    """Whether an action is a Box, or has one among its leaves."""
    return any(isinstance(leaf.space, Box) for leaf in leaves(action))


def action_bounds(space: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds, (width,) each, that outputs in [-1, 1] are mapped to; all of them are finite.

    Each number of the Box has its own. Where it has no bound, -1 and 1 take the place. Where it has one bound, the
    interval of length 2 that lies within it and nearest to [-1, 1] does: [0, 2] for 0 and more, [-1, 1] for -5 and
    more, [-7, -5] for -5 and less.
    """
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    above = np.maximum(low, -1.0)  # the interval's lower end if there is no upper bound; -1 if there is none at all
    below = np.minimum(high, 1.0)
    return (
        np.where(np.isfinite(high), np.where(np.isfinite(low), low, below - 2), above),
        np.where(np.isfinite(high), np.where(np.isfinite(low), high, below), above + 2),
    )
