"""Keeps the asynchronous calls of vectorised environments in turn: one at a time, each begun, then waited for.

Calls out of turn raise gymnasium's errors, which code written for gymnasium's or AgileRL's vectorised environments
catches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError


class PendingCall:
    """The call that vectorised environments are carrying out, if any.

    Attributes:
        name: "reset", "step" or "call" from when it is begun until it is waited for; otherwise empty.
        closed: Whether the environments were closed.
    """

    def __init__(self) -> None:
        self.name = ""
        self.closed = False

    @contextmanager
    def beginning(self, name: str) -> Iterator[None]:
        """Context manager that begins a call; the call is pending unless the block raises.

        Raises:
            ClosedEnvironmentError: the environments were closed.
            AlreadyPendingCallError: another call is pending.
        """
        self._check_open(f"{name}_async")
        if self.name:
            raise AlreadyPendingCallError(
                f"environments: {name}_async while a {self.name} is under way, expected none; call {self.name}_wait "
                "first",
                self.name,
            )
        yield
        self.name = name

    def end(self, name: str) -> None:
        """Note that a pending call is being waited for: the next one may begin.

        Raises:
            ClosedEnvironmentError: the environments were closed.
            NoAsyncCallError: no such call is pending.
        """
        self._check_open(f"{name}_wait")
        if self.name != name:
            raise NoAsyncCallError(
                f"environments: {name}_wait while no {name} is under way; call {name}_async first", name
            )
        self.name = ""

    def _check_open(self, called: str) -> None:
        if self.closed:
            raise ClosedEnvironmentError(
                f"environments: {called} after close, expected environments that are open; build them again"
            )
