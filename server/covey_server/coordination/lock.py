"""The one lock under which the learner's threads share their state, and the proof that it is held."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class StateLock:
    """A reentrant lock that knows whether the calling thread holds it.

    Attributes:
        changed: A condition on the lock: notified whenever the trainer may have something new to do.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    @property
    def held(self) -> bool:
        """Whether the calling thread holds the lock."""
        # What threading.Condition itself asks of a lock; it has no public name.
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]
        return owned


class Locked(Protocol):
    """Something whose state is guarded by a lock."""

    @property
    def lock(self) -> StateLock:
        """The lock."""
        ...


_S = TypeVar("_S", bound=Locked)


def under_lock(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """Marks a method that must be called under `self.lock`; without `python -O` each call asserts it."""
    if not __debug__:
        return method

    @functools.wraps(method)
    def checked(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        assert self.lock.held, f"{method.__qualname__} was called without the learner's lock"
        return method(self, *args, **kwargs)

    return checked
