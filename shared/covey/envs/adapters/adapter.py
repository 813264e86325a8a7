"""What an adapter is: it recognises environments of one interface, and makes PettingZoo's, or arrays, of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Adapter:
    """Makes environments of another interface usable; exactly one of `parallel` and `batched` is given.

    Attributes:
        recognise: Says in words what an object is, such as "a gymnasium environment with Tuple spaces", if it is of
            the adapter's interface, and "" otherwise. It looks at attributes and calls nothing.
        parallel: Makes an environment of PettingZoo's parallel interface of it.
        batched: Makes a `covey.envs.BatchedEnvironment` of it, with the given number of copies, for environments that
            step many copies in one call. If the environment's function has a parameter `num_envs`, that was given the
            same number.
    """

    recognise: Callable[[Any], str]
    parallel: Callable[[Any], Any] | None = None
    batched: Callable[[Any, int], Any] | None = None


def derives_from(env: Any, package: str, name: str) -> bool:
    """Whether an object is of a class of this package and name, or derived from it; nothing is imported."""
    return any(c.__name__ == name and c.__module__.partition(".")[0] == package for c in type(env).__mro__)
