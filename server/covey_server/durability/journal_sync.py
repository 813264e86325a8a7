"""The thread that makes the journal durable: one sync for all records that were appended since the last one."""

from __future__ import annotations

from collections.abc import Callable

from covey_server.coordination.threads import WatchedThread
from covey_server.learner import Learner
from covey_server.orders.session import Session


class JournalSync(WatchedThread):
    """Syncs a learner's journal every `checkpoint.journal_sync_s` seconds, or earlier when many bytes wait.

    Args:
        learner: The learner whose journal is synced; if the disk fails, its run ends.
        moved: Called with the sessions whose durable mark moved, so that their actors can be told.
    """

    def __init__(self, learner: Learner, moved: Callable[[list[Session]], None]) -> None:
        super().__init__("journal", learner.threads)
        self._learner = learner
        self._moved = moved
        self._ended = False

    def work(self) -> None:
        """Sync the journal whenever it is due, until `stop`."""
        due = self._learner.journal.due
        interval_s = self._learner.config.checkpoint.journal_sync_s
        while not self._ended:
            due.wait(interval_s or None)
            sessions = self._learner.sync_journal()
            if sessions:
                self._moved(sessions)

    def stop(self) -> None:
        """Sync the journal once more, then end the thread."""
        self._ended = True
        while self.is_alive():
            self._learner.journal.due.set()  # again and again, as a checkpoint's sync clears it
            self.join(0.1)
