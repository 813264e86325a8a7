"""`python -m tests.chaos.learner NOTES ARGUMENT...`: the real `covey`; notes up to where the journal was synced.

NOTES is one line, `synced SEGMENT OFFSET`, of the newest sync, written before anybody is told: what lies behind it may
be lost when the power fails, and nothing else. It keeps its length: there may be no room on the disk.
"""

from __future__ import annotations

import os
import sys

from covey.cli import main
from covey_server.storage.journal import Journal, Position

_sync = Journal.sync


def sync(journal: Journal) -> Position:
    """As `Journal.sync`, noted."""
    end = _sync(journal)
    os.pwrite(_notes, f"synced {end.segment:12d} {end.offset:12d}\n".encode(), 0)
    return end


if __name__ == "__main__":
    _notes = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT, 0o644)
    Journal.sync = sync  # type: ignore[method-assign,assignment]
    main()
