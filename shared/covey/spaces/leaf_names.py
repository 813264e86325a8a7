"""Dotted names of a tree's arrays, by which columns of rows and fields of arrays are named."""

from __future__ import annotations

from covey.errors import SpaceError
from covey.spaces.kinds import Space, leaves


def check_names(space: Space, what: str) -> None:
    """Refuse a tree of which two arrays have one dotted name, as `{"a": {"b": ...}, "a.b": ...}` has.

    Raises:
        SpaceError: it is such a tree; `what` names it.
    """
    names = [leaf.name for leaf in leaves(space)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpaceError(f"{what}: two entries have the dotted name {twice!r}, expected one; rename an entry")
