"""Claims: a run of a sweep is trained by one process at a time, whatever number of processes and jobs share the sweep.

A claim is a lock of the kernel (flock) on a file in the run's directory. Nobody has to clean up: the kernel releases it
when the last process that holds the file open has ended, however it ended. A child process that trains the run inherits
it, so a run whose sweep was killed stays claimed for as long as its own process trains on.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from covey.run.files import cannot_write

CLAIM = "claim.lock"


class Claim:
    """A run that this process has claimed; `fd` is the open file, which a child that works for it inherits."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @staticmethod
    def take(run: Path) -> Claim | None:
        """Claim a run, whose directory is made if it is not there; None if another process has claimed it.

        Raises:
            StorageError: the directory or the file cannot be written.
        """
        file = run / CLAIM
        try:
            run.mkdir(parents=True, exist_ok=True)
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise cannot_write(file, exc) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError as exc:
            os.close(fd)
            raise cannot_write(file, exc) from exc
        return Claim(fd)

    def release(self) -> None:
        """Give the claim back; a child that inherited it keeps it until it ends."""
        os.close(self.fd)
