"""The thread that writes checkpoints to disk while training goes on."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable
from concurrent.futures import Future

from covey.errors import DiskFullError
from covey_server.coordination.run_state import ThreadEnded
from covey_server.coordination.threads import Threads, WatchedThread
from covey_server.durability.checkpointer import Captured, Checkpointer

LOOK_AGAIN_S = 0.5
"""Interval at which a thread that waits for a checkpoint checks that this thread still runs, seconds."""


class CheckpointThread(WatchedThread):
    """Writes captured runs as checkpoints, one after another, and deletes what no kept checkpoint needs.

    Args:
        checkpointer: Writes the checkpoints.
        threads: The list of watched threads that it joins.
        written: Called whenever a checkpoint was written or could not be.
    """

    def __init__(self, checkpointer: Checkpointer, threads: Threads, written: Callable[[], None]) -> None:
        super().__init__("checkpoint", threads)
        self._checkpointer = checkpointer
        self._written = written
        self._jobs: queue.SimpleQueue[tuple[Captured, Future[str]] | None] = queue.SimpleQueue()

    def submit(self, captured: Captured) -> Future[str]:
        """Queue a captured run to be written; the future returns the checkpoint's path or raises what went wrong."""
        future: Future[str] = Future()
        self._jobs.put((captured, future))
        return future

    def wait(self, future: Future[str]) -> str:
        """Wait until a submitted checkpoint is durable; returns its path.

        Raises:
            StorageError: the checkpoint could not be written.
            ThreadEnded: this thread ended before it was written.
        """
        while True:
            try:
                return future.result(LOOK_AGAIN_S)
            except TimeoutError:
                if not self.is_alive() and not future.done():
                    raise ThreadEnded(
                        f"thread {self.name} has ended, expected it to write the run's checkpoint; go on from the one "
                        "before it with --resume"
                    ) from None

    def stop(self) -> None:
        """Wait until everything submitted has been written, then end the thread."""
        self._jobs.put(None)
        if self.ident is not None:
            self.join()

    def work(self) -> None:
        """Write submitted checkpoints until `stop`."""
        while (job := self._jobs.get()) is not None:
            captured, future = job
            del job
            try:
                path = self._checkpointer.write(captured)
            except BaseException as exc:
                # An error is for whoever waits for this checkpoint; an exit or interrupt also ends the thread.
                del captured  # as below
                future.set_exception(exc)
                self._written()
                if not isinstance(exc, Exception):
                    raise
                continue
            # Until the next job nobody else holds these copies of all networks.
            del captured
            future.set_result(path)
            self._written()
            # After the result is set, as nobody waits for this. On a full disk the next checkpoint tries again.
            with contextlib.suppress(DiskFullError):
                self._checkpointer.drop_old()
