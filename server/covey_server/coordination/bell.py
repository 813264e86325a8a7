"""A bell between threads: the trainer rings it when orders may be sent, and the thread that sends orders listens."""

from __future__ import annotations

from collections.abc import Callable


class Bell:
    """A callback that any thread may trigger by `ring`; it has one listener or none."""

    def __init__(self) -> None:
        self._listener: Callable[[], None] | None = None

    def answer(self, listener: Callable[[], None] | None) -> None:
        """Set the function that every ring calls, in the thread that rings; None removes the listener."""
        self._listener = listener

    def ring(self) -> None:
        """Tell the listener that orders may be sent now; without a listener nothing happens."""
        # Read once: another thread may remove the listener between the test and the call.
        listener = self._listener
        if listener is not None:
            listener()
