"""What tells an actor process to leave: SIGTERM, SIGINT, and the end of the process that started it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_on_signals(leave: Callable[[str], None]) -> None:
    """Call `leave` with the signal's name at the first one; a second one ends the process at once.

    A handler in Python runs when the main thread comes to it: not while it waits for an order, if the signal came right
    before that or interrupted another thread, nor within an environment that hangs. So a thread of its own reads the
    pipe to which the interpreter writes signals as they come.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def next_signal() -> signal.Signals:
        while (number := os.read(reader, 1)[0]) not in SIGNALS:  # an environment has signals of its own
            pass
        return signal.Signals(number)

    def read() -> None:
        leave(next_signal().name)
        os._exit(128 + next_signal())

    signal.set_wakeup_fd(writer)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=read, name="covey-signals", daemon=True).start()


def ignore_signals() -> None:
    """How the process ends is decided: a signal during the interpreter's own end must not change the exit code."""
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
