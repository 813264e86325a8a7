"""A bell: the trainer rings it when orders may leave, and whoever hands out orders answers."""

from __future__ import annotations

from collections.abc import Callable


class Bell:
    """Rings from any thread; nobody, or one listener, hears it."""

    def __init__(self) -> None:
        self._listener: Callable[[], None] | None = None

    def answer(self, listener: Callable[[], None] | None) -> None:
        """Have this called at every ring, in the thread that rings; None: nobody listens any more."""
        self._listener = listener

    def ring(self) -> None:
        """Say that orders may leave now."""
        listener = self._listener
        if listener is not None:
            listener()
