"""Answers about runs that lack what belongs in them, as edited files and other versions of covey give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from covey.errors import StorageError

if TYPE_CHECKING:
    from covey.cli.sources import Source


@contextmanager
def understood(source: Source) -> Iterator[None]:
    """A context in which an answer without what belongs in it becomes a sentence.

    Raises:
        StorageError: the answer is not one of this version of covey.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
        raise StorageError(
            f"{source} gives an answer that this version of covey does not know ({type(exc).__name__}: {exc}); its "
            "files were edited, or it is of another version: look at it with that one"
        ) from exc
