"""Makes an actor process leave on SIGTERM, on SIGINT, and when the process that started it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from covey.cli.terminal import exit_now

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_on_signals(leave: Callable[[str], None]) -> None:
    """Call `leave` with the signal's name at the first signal; end the process at once at the second.

    A Python handler runs only when the main thread gets to it: not within an environment that hangs, nor while it waits
    for an order, if the signal came right before that or interrupted another thread. So a thread of its own reads the
    pipe to which the interpreter writes signals as they come.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def next_signal() -> signal.Signals:
        while (number := os.read(reader, 1)[0]) not in SIGNALS:  # an environment may use other signals
            pass
        return signal.Signals(number)

    def read() -> None:
        leave(next_signal().name)
        exit_now(128 + next_signal())

    signal.set_wakeup_fd(writer)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=read, name="covey-signals", daemon=True).start()


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT from now on, so that one while the process ends does not change its exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave_with_parent(leave: Callable[[str], None]) -> None:
    """Call `leave` when stdin ends, which it does when the parent process is gone."""

    def await_end() -> None:
        # Not through sys.stdin: its lock, held by a thread that reads, aborts the interpreter at its end.
        while os.read(0, 1024):
            pass
        leave("parent process ended")

    threading.Thread(target=await_end, name="covey-parent", daemon=True).start()
