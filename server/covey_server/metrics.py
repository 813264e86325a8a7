"""Metrics of a run over its env steps: metrics.csv in the run directory, and TensorBoard beside it."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from covey.config import Logging
from covey.files import cannot_write

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = ("wall_s", "env_steps", "name", "value")


class Metrics:
    """Writer of named numbers; long format, so that a name may appear, or stop, at any time.

    Rows are `wall_s` (seconds of training, over restarts), `env_steps` (of the whole population), `name`, `value`.
    A resumed run appends. TensorBoard gets the same names with env steps as its axis.
    """

    def __init__(self, run: Path, logging: Logging, started_s: float = 0.0) -> None:
        """Open the files.

        Args:
            run: The run directory.
            logging: Which of the two to write.
            started_s: Seconds of training before this start of the learner.

        Raises:
            StorageError: a file cannot be opened.
        """
        self._zero = time.monotonic() - started_s
        self._path = run / "metrics.csv"
        self._tensorboard: SummaryWriter | None = None
        self._file = None
        with self._storage():
            if logging.csv:
                self._file = self._path.open("a", newline="", encoding="utf-8")
                self._rows = csv.writer(self._file)
                if self._file.tell() == 0:
                    self._rows.writerow(COLUMNS)
            if logging.tensorboard:
                # Imported late: it takes a second, and a run may do without.
                from torch.utils.tensorboard import SummaryWriter

                self._tensorboard = SummaryWriter(str(run / "tensorboard"))

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Note all values at this env step.

        Raises:
            StorageError: the disk does not take them; so do `flush` and `close`.
        """
        wall_s = round(time.monotonic() - self._zero, 3)
        with self._storage():
            if self._file is not None:
                self._rows.writerows((wall_s, env_steps, name, value) for name, value in values.items())
            if self._tensorboard is not None:
                for name, value in values.items():
                    self._tensorboard.add_scalar(name, value, env_steps)

    def flush(self) -> None:
        """Let readers see what was written so far."""
        with self._storage():
            if self._file is not None:
                self._file.flush()
            if self._tensorboard is not None:
                self._tensorboard.flush()

    def close(self) -> None:
        """Flush and close; nothing may be written after it."""
        with self._storage():
            if self._file is not None:
                self._file.close()
            if self._tensorboard is not None:
                self._tensorboard.close()

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise cannot_write(self._path, exc) from exc
