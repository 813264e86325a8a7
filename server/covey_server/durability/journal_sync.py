"""The thread that makes the journal durable: by time and by bytes, all that came meanwhile at once."""

from __future__ import annotations

from collections.abc import Callable

from covey_server.coordination.threads import WatchedThread
from covey_server.learner import Learner
from covey_server.orders.session import Session


class JournalSync(WatchedThread):
    """Syncs a learner's journal every `checkpoint.journal_sync_s`, or sooner when it is due by bytes.

    Args:
        learner: Whose; a disk that fails ends its run.
        moved: Called with the sessions whose durable mark moved.
    """

    def __init__(self, learner: Learner, moved: Callable[[list[Session]], None]) -> None:
        super().__init__("journal", learner.threads)
        self._learner = learner
        self._moved = moved
        self._ended = False

    def work(self) -> None:
        """Sync until stopped."""
        due = self._learner.journal.due
        interval_s = self._learner.config.checkpoint.journal_sync_s
        while not self._ended:
            due.wait(interval_s or None)
            sessions = self._learner.sync_journal()
            if sessions:
                self._moved(sessions)

    def stop(self) -> None:
        """Sync once more, and end."""
        self._ended = True
        while self.is_alive():
            self._learner.journal.due.set()  # which a checkpoint's sync may take back
            self.join(0.1)
