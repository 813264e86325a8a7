"""The one lock under which the learner's threads share their state, and an assertion that the calling thread has it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class StateLock:
    """A reentrant lock that can tell whether the calling thread holds it.

    Attributes:
        changed: A condition variable on the lock: notified whenever the trainer may have something new to do.
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
        # threading.Condition asks an RLock the same question in this way; the method has no public name.
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]
        return owned


class Locked(Protocol):
    """An object whose state is guarded by a `StateLock`, as `under_lock` needs it."""

    @property
    def lock(self) -> StateLock:
        """The lock that guards this object's state."""
        ...


_S = TypeVar("_S", bound=Locked)


def under_lock(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
    """Decorate a method that must be called while `self.lock` is held; each call asserts it (not under `python -O`)."""
    if not __debug__:
        return method

    @functools.wraps(method)
    def checked(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The decorated method: asserts that the lock is held, then calls the original."""
        assert self.lock.held, f"{method.__qualname__} was called without the learner's lock"
        return method(self, *args, **kwargs)

    return checked
