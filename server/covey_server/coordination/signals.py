"""What a signal to the learner's process does: the first one stops the run with a checkpoint, a second one ends it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from covey.cli.terminal import say

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what schedulers and service managers send, and what a terminal sends that is closed."""


@dataclass(slots=True)
class Interruption:
    """Whether a signal has asked the process to end.

    Attributes:
        signal: Number of the first such signal; None if there was none.
    """

    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of a process that the signal ended, 128 plus its number; 0 if there was none."""
        return 0 if self.signal is None else 128 + self.signal


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[Interruption]:
    """Handle SIGINT, SIGTERM and SIGHUP: the first one calls `stop` in a thread, a second one exits at once.

    A hangup is ignored where it was ignored before, as `nohup` has it.

    Args:
        stop: Asks the run to stop.

    Yields:
        What becomes known of a signal.
    """
    seen = Interruption()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if seen.signal is not None:
            raise SystemExit(128 + number)
        seen.signal = number
        with contextlib.suppress(OSError, ValueError):  # the terminal that hung up takes no more text
            say("covey: stopping with a checkpoint; a second signal (Ctrl-C) stops at once", error=True)
        # In a thread: the handler may have interrupted code that holds the learner's lock, which `stop` needs.
        threading.Thread(target=stop, daemon=True).start()

    handled = [s for s in STOPPING_SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, handle) for s in handled}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
