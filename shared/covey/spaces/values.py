"""Values of spaces that are trees: as environments have them (dictionaries and tuples), and as structured arrays.

In arrays a value of a tree is one element with a field for each leaf, named by the leaf's dotted name. Functions here
take spaces that are no trees too: those have one leaf, which is the array itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from covey.errors import CoveyError, SpaceError
from covey.spaces.kinds import DictSpace, Leaf, LeafSpace, Space, TupleSpace, leaves


def leaf_arrays(space: Space, values: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return views of an array's leaves, in the order of `leaves(space)`: each (..., *shape of the leaf)."""
    if isinstance(space, LeafSpace):
        return (values,)
    return tuple(values[leaf.name] for leaf in leaves(space))


def nested(space: Space, values: NDArray[Any]) -> Any:
    """Return values as environments have them: dictionaries and tuples of views, each (..., *shape of the leaf)."""
    if isinstance(space, LeafSpace):
        return values
    leaf = iter(leaf_arrays(space, values))

    def build(part: Space) -> Any:
        match part:
            case DictSpace(entries):
                return {name: build(entry) for name, entry in entries}
            case TupleSpace(elements):
                return tuple(build(element) for element in elements)
        return next(leaf)

    return build(space)


def at_path(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return what lies at a path in a value of dictionaries and tuples.

    A tuple is subscripted by the number in a name: one that lost elements is a dictionary named by its indices.

    Raises:
        LookupError, TypeError, ValueError: there is no such part.
    """
    for key in path:
        value = value[key] if isinstance(value, Mapping) else value[int(key)]
    return value


def part_of(value: Any, leaf: Leaf, what: str, refused: type[CoveyError] = SpaceError) -> Any:
    """Return the part of a value, as environments have it, that a leaf of its space stands for.

    Args:
        value: Dictionaries and tuples of arrays, or an array where the space is no tree.
        leaf: The leaf.
        what: Names the value in the error: "observation of agent 'a_0'".
        refused: Type of the error.

    Raises:
        SpaceError, or what `refused` says: there is no such part.
    """
    try:
        return at_path(value, leaf.path)
    except (LookupError, TypeError, ValueError) as exc:
        raise refused(
            f"{what}: {type(value).__name__} without {leaf.name}, expected dictionaries and tuples as in its space; "
            "correct one of the two"
        ) from exc
