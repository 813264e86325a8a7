"""The thread that writes checkpoints while training goes on."""

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
"""How often whoever waits for a checkpoint looks whether the thread still lives."""


class CheckpointThread(WatchedThread):
    """Writes what was captured, one checkpoint after the other, and deletes what is not needed any more.

    Args:
        checkpointer: Writes.
        threads: Where the thread is watched.
        written: Called when a checkpoint was written, or could not be.
    """

    def __init__(self, checkpointer: Checkpointer, threads: Threads, written: Callable[[], None]) -> None:
        super().__init__("checkpoint", threads)
        self._checkpointer = checkpointer
        self._written = written
        self._jobs: queue.SimpleQueue[tuple[Captured, Future[str]] | None] = queue.SimpleQueue()

    def submit(self, captured: Captured) -> Future[str]:
        """Have a captured run written; the future gives the checkpoint's path, or raises what it failed by."""
        future: Future[str] = Future()
        self._jobs.put((captured, future))
        return future

    def wait(self, future: Future[str]) -> str:
        """The path of a submitted checkpoint, once it is durable.

        Raises:
            StorageError: it could not be written.
            ThreadEnded: this thread has ended before it.
        """
        while True:
            try:
                return future.result(LOOK_AGAIN_S)
            except TimeoutError:
                if not self.is_alive() and not future.done():
                    raise ThreadEnded(
                        f"thread {self.name}: has ended, expected it to write the run's checkpoint; go on from the one "
                        "before it with --resume"
                    ) from None

    def stop(self) -> None:
        """End when everything submitted has been written."""
        self._jobs.put(None)
        if self.ident is not None:
            self.join()

    def work(self) -> None:
        """Write what comes."""
        while (job := self._jobs.get()) is not None:
            captured, future = job
            try:
                path = self._checkpointer.write(captured)
            except BaseException as exc:
                future.set_exception(exc)
                self._written()
                if not isinstance(exc, Exception):
                    raise
                continue
            future.set_result(path)
            self._written()
            with contextlib.suppress(DiskFullError):  # it is tried again with the next checkpoint
                self._checkpointer.drop_old()  # after the answer: nobody waits for this
