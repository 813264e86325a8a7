"""Converts Gymnasium's spaces to covey's own types, and says by name what a network cannot read."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import gymnasium
import numpy as np

from covey.errors import SpaceError
from covey.spaces.kinds import (
    MASK_KEY,
    Box,
    DictSpace,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Space,
    TupleSpace,
)
from covey.spaces.leaf_names import check_names

SEEN_KEYS = ("observation", "obs")
"""Keys of what an agent sees, in a dictionary that holds nothing else but the action mask."""


def from_gymnasium(space: gymnasium.Space, what: str, ignored: Collection[str] = ()) -> Space:  # type: ignore[type-arg]
    """Convert a Gymnasium space to covey's own type.

    Args:
        space: Any space.
        what: Names it in errors ("observation of agent 'a_0'").
        ignored: Dotted names of parts of a tree (`mission`, `inventory.0`) that are left out, with all below them.

    Raises:
        SpaceError: a kind of space that covey cannot serve, nothing is left of a tree, or two of its parts have one
            dotted name.
    """
    converted = _converted(space, what, (), frozenset(ignored))
    check_names(converted, what)
    return converted


def observation_from_gymnasium(
    space: gymnasium.Space,  # type: ignore[type-arg]
    what: str,
    ignored: Collection[str] = (),
) -> tuple[Space, bool]:
    """Convert a Gymnasium observation space to covey's own type; returns also whether it carries an action mask.

    A mask is the entry `action_mask` of a dictionary. The space returned is that of the other entries; of `observation`
    or `obs` alone, if the dictionary has nothing else.

    Raises:
        SpaceError: a kind of space that covey cannot serve, or nothing is left of a tree.
    """
    seen = without_mask(space)
    return from_gymnasium(seen, what, ignored), seen is not space


def without_mask(space: gymnasium.Space) -> gymnasium.Space:  # type: ignore[type-arg]
    """Return the space of what is seen, of an observation space that may carry an action mask."""
    if not isinstance(space, gymnasium.spaces.Dict) or MASK_KEY not in space.spaces:
        return space
    rest = {key: entry for key, entry in space.spaces.items() if key != MASK_KEY}
    if len(rest) == 1 and next(iter(rest)) in SEEN_KEYS:
        return next(iter(rest.values()))
    return gymnasium.spaces.Dict(rest)


def part_names(space: gymnasium.Space, path: tuple[str, ...] = ()) -> Iterator[str]:  # type: ignore[type-arg]
    """Yield the dotted names of all parts of a space: entries of dictionaries, elements of tuples, and those in them.

    Names are those that `from_gymnasium` takes for parts to leave out.
    """
    if path:
        yield ".".join(path)
    spaces = gymnasium.spaces
    space = space if path else without_mask(space)
    if isinstance(space, spaces.Dict):
        for key, entry in space.spaces.items():
            yield from part_names(entry, (*path, str(key)))
    elif isinstance(space, spaces.Tuple):
        for i, element in enumerate(space.spaces):
            yield from part_names(element, (*path, str(i)))


def _converted(
    space: gymnasium.Space,  # type: ignore[type-arg]
    what: str,
    path: tuple[str | int, ...],
    ignored: frozenset[str],
) -> Space:
    """Convert the space at a path of the space that `what` names."""
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _converted_tree(space, what, path, ignored)
    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete) and np.ndim(space.nvec) >= 1:
        first = getattr(space, "start", np.zeros_like(space.nvec))  # gymnasium 0.28 has none
        nvec, start = (tuple(int(n) for n in np.ravel(numbers)) for numbers in (space.nvec, first))
        return MultiDiscrete(nvec, tuple(space.shape), start)
    if isinstance(space, spaces.MultiBinary):
        return MultiBinary(int(np.prod(space.shape)), tuple(space.shape))
    if isinstance(space, spaces.Box) and space.dtype is not None:
        low = np.asarray(space.low, dtype=np.float64).ravel().tolist()
        high = np.asarray(space.high, dtype=np.float64).ravel().tolist()
        return Box(np.dtype(space.dtype).name, tuple(space.shape), tuple(low), tuple(high))
    if type(space).__module__.split(".")[0] == "gym":
        raise SpaceError(
            f"{_named(what, path)}: space {space} of the old package gym, expected one of gymnasium; import gymnasium "
            "in its place"
        )
    leave_out = ""
    if path and what.startswith("observation"):
        leave_out = f", or leave it out by environment.ignore_observations: [{'.'.join(map(str, path))!r}]"
    raise SpaceError(
        f"{_named(what, path)}: space {space}, expected Box, Discrete, MultiDiscrete or MultiBinary, or Dict or Tuple "
        f"of these; wrap the environment so that it gives one of them{leave_out}"
    )


def _converted_tree(
    space: gymnasium.spaces.Dict | gymnasium.spaces.Tuple,  # type: ignore[type-arg]
    what: str,
    path: tuple[str | int, ...],
    ignored: frozenset[str],
) -> Space:
    """Convert a dictionary or tuple of spaces, without the parts that are left out."""
    keyed = isinstance(space, gymnasium.spaces.Dict)
    entries = list(space.spaces.items()) if isinstance(space, gymnasium.spaces.Dict) else list(enumerate(space.spaces))
    kept = []
    for key, entry in entries:
        if keyed and not isinstance(key, str):
            raise SpaceError(
                f"{_named(what, path)}: dictionary with the key {key!r}, expected texts; rename it in the observations"
            )
        if ".".join(map(str, (*path, key))) not in ignored:
            kept.append((key, _converted(entry, what, (*path, key), ignored)))
    if not kept:
        raise SpaceError(f"{_named(what, path)}: space {space}, expected at least one entry that is not left out")
    if not keyed and len(kept) == len(entries):
        return TupleSpace(tuple(entry for _, entry in kept))
    # Of a tuple that lost elements the others keep their indices, as names.
    return DictSpace(tuple((str(key), entry) for key, entry in kept))


def _named(what: str, path: tuple[str | int, ...]) -> str:
    """Name a part of a space, for an error: "observation of agent 'a_0', inventory.0"."""
    return f"{what}, {'.'.join(map(str, path))}" if path else what
