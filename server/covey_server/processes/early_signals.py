"""What a signal does while `covey train` or `covey learner` imports what it needs: it ends the process at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from covey.cli.terminal import exit_now

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[list[Callable[[], None]]]:
    """End the process at SIGINT, SIGTERM and SIGHUP, with 128 plus the signal's number as its exit code.

    Without it Ctrl-C raises KeyboardInterrupt wherever the program is. Importing runs callbacks and destructors all the
    time, out of which no exception gets: it is printed, and the import goes on as if nobody had pressed a key. Within
    this context others may handle signals for a while. A hangup is ignored where it was ignored before, as `nohup` has
    it.

    Yields:
        A list to which what is called before the end may be appended; it must not wait for anything, as it may have
        interrupted who holds a lock.
    """
    calls: list[Callable[[], None]] = []
    handled = [s for s in ENDING_SIGNALS if signal.getsignal(s) != signal.SIG_IGN]

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        for other in handled:  # a second signal ends it whatever the calls do
            signal.signal(other, signal.SIG_DFL)
        for call in calls:
            with contextlib.suppress(Exception):
                call()
        exit_now(128 + number)

    before = {s: signal.signal(s, end) for s in handled}
    try:
        yield calls
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
