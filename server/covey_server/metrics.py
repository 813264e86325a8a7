"""Metrics of a run over its env steps: metrics.csv in the run directory, TensorBoard beside it, Weights & Biases."""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from covey.config import Logging as LoggingConfig
from covey.run.files import cannot_write

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger("covey.learner")

COLUMNS = ("wall_s", "env_steps", "name", "value")
WANDB_AXIS = "env_steps"


class Metrics:
    """Writer of named numbers; long format, so that a name may appear, or stop, at any time.

    Rows are `wall_s` (seconds of training, over restarts), `env_steps` (of the whole population), `name`, `value`.
    A resumed run appends. TensorBoard and Weights & Biases get the same names with env steps as their axis.
    """

    def __init__(self, run: Path, config: LoggingConfig, started_s: float = 0.0) -> None:
        """Open the files; without Weights & Biases, or where it fails, the run goes on and a warning says so.

        Args:
            run: The run directory.
            config: Which of them to write.
            started_s: Seconds of training before this start of the learner.

        Raises:
            StorageError: a file cannot be opened.
        """
        self._zero = time.monotonic() - started_s
        self._config = config
        self._path = run / "metrics.csv"
        self._tensorboard: SummaryWriter | None = None
        self._file: TextIO | None = None
        self._whole_bytes = 0  # of the file: up to here it is rows, whole
        with self._storage():
            self._open()
        self._wandb = _open_wandb(run) if config.wandb else None

    def _open(self) -> None:
        """Open what is not open: at first, and after the disk refused something."""
        if self._config.csv and self._file is None:
            self._file = self._path.open("a", newline="", encoding="utf-8")
            self._rows = csv.writer(self._file)
            self._whole_bytes = self._file.tell()
            if self._whole_bytes == 0:
                self._rows.writerow(COLUMNS)
        if self._config.tensorboard and self._tensorboard is None:
            # Imported late: it takes a second, and a run may do without.
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self._path.with_name("tensorboard")))

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Note all values at this env step.

        Raises:
            StorageError: the disk does not take them; so do `flush` and `close`. What was not flushed before is lost,
                the rest is whole, and later calls go on behind it.
        """
        wall_s = round(time.monotonic() - self._zero, 3)
        with self._storage():
            self._open()
            if self._file is not None:
                self._rows.writerows((wall_s, env_steps, name, value) for name, value in values.items())
            if self._tensorboard is not None:
                for name, value in values.items():
                    self._tensorboard.add_scalar(name, value, env_steps)
        if self._wandb is not None:
            self._wandb.log({**values, WANDB_AXIS: env_steps})

    def flush(self) -> None:
        """Let readers see what was written so far."""
        with self._storage():
            if self._file is not None:
                self._file.flush()
                self._whole_bytes = self._file.tell()
            if self._tensorboard is not None:
                self._tensorboard.flush()

    def close(self) -> None:
        """Flush and close; nothing may be written after it."""
        with self._storage():
            if self._file is not None:
                self._file.close()
            if self._tensorboard is not None:
                self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            self._give_up_unfinished()
            raise cannot_write(self._path, exc) from exc

    def _give_up_unfinished(self) -> None:
        """Close all, and leave nothing behind of which a part is missing; neither can be written to after an error."""
        file, self._file = self._file, None
        tensorboard, self._tensorboard = self._tensorboard, None
        for closing in (file, tensorboard):
            with suppress(OSError):
                if closing is not None:
                    closing.close()
        if file is not None:
            with suppress(OSError):
                os.truncate(self._path, self._whole_bytes)


def _open_wandb(run: Path) -> Any:
    """A run of the same name at Weights & Biases, gone on with where there is one; None where that cannot be.

    Untyped, because the package is optional: type checkers must do without it too.
    """
    try:
        wandb = import_module("wandb")
    except ImportError:
        logger.warning(
            "logging.wandb: wandb is not installed, so metrics go to the run directory only; "
            "pip install 'covey-marl[wandb]'"
        )
        return None
    name = run.resolve().name
    try:
        opened = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "covey"),
            name=name,
            id=name,
            resume="allow",
            dir=run,
            settings=wandb.Settings(console="off"),  # what the process prints is its own
        )
        opened.define_metric("*", step_metric=WANDB_AXIS)
    except Exception as exc:  # no login, no network, no disk: nothing to end a training for
        reason = " ".join(str(exc).split())
        logger.warning("logging.wandb: wandb cannot start (%s), so metrics go to the run directory only", reason)
        return None
    return opened
