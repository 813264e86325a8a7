"""Reaching into vectorised environments: calling their methods, reading and setting their attributes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from covey.envs.copies import call, get, put
from covey.envs.pending import PendingCall
from covey.envs.slots import Fault
from covey.errors import EnvironmentLoadError


class EnvironmentCalls(ABC):
    """Base class of vectorised environments: calls of the environments' own methods and attributes.

    Args:
        num_envs: Number of environments.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self._pending = PendingCall()
        self._called = ""  # what the call that is under way is of

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """For each environment the result of its method of that name, or its attribute if that is no method."""
        self.call_async(name, *args, **kwargs)
        return self.call_wait()

    def call_async(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Begin what `call` does and return at once; `call_wait` must follow."""
        self._apply(name, call, [(name, args, kwargs)] * self.num_envs)

    def call_wait(self, timeout: float | None = None) -> tuple[Any, ...]:
        """Wait for the call that `call_async` began; returns what `call` returns.

        Args:
            timeout: Seconds after which environments that are not ready count as hanging; None: the slots' own limit.

        Raises:
            EnvironmentLoadError: an environment raised, ended or hung.
        """
        self._pending.end("call")
        results = self._end_each(timeout)
        for i, result in enumerate(results):
            if isinstance(result, Fault):
                raise EnvironmentLoadError(f"environment {i}: {self._called!r}: {result.message}")
        return tuple(results)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """For each environment its attribute of that name."""
        self._apply(name, get, [(name,)] * self.num_envs)
        return self.call_wait()

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each environment's outermost wrapper.

        Args:
            name: Of the attribute.
            values: A list or tuple of one value for each environment; anything else is set everywhere.
        """
        each = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise EnvironmentLoadError(f"set_attr {name!r}: {len(each)} values for {self.num_envs} environments")
        self._apply(name, put, [(name, value) for value in each])
        self.call_wait()

    def render(self) -> tuple[Any, ...]:
        """For each environment what its `render` returns."""
        return self.call("render")

    @abstractmethod
    def _begin_each(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        """Begin calling a function for each environment, with its arguments."""

    @abstractmethod
    def _end_each(self, timeout: float | None) -> list[Any]:
        """Wait for the end of the calls that were begun; returns the results, faults where the function raised."""

    def _apply(self, name: str, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        """Begin calling a function for each environment; `name` says in errors what was called."""
        with self._pending.beginning("call"):
            self._begin_each(function, arguments)
            self._called = name
