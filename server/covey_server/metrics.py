"""Writes a run's metrics: to metrics.csv and TensorBoard files in its directory, and to Weights & Biases."""

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
    """Writer of a run's metrics, which are numbers with a name and the env step at which they were taken.

    metrics.csv has one row for each value, so that metrics may appear or end at any time. Its columns are `wall_s`
    (seconds of training, restarts left out), `env_steps` (of the whole population), `name` and `value`; a resumed run
    appends. TensorBoard and Weights & Biases get the same names, plotted over env steps.
    """

    def __init__(self, run: Path, config: LoggingConfig, started_s: float = 0.0) -> None:
        """Open the files, and a Weights & Biases run; if that cannot start, log a warning and do without.

        Args:
            run: The run's directory.
            config: Section `logging` of the configuration: which outputs to write.
            started_s: Seconds that the run had trained before this process started.

        Raises:
            StorageError: a file cannot be opened.
        """
        self._zero = time.monotonic() - started_s
        self._config = config
        self._path = run / "metrics.csv"
        self._tensorboard: SummaryWriter | None = None
        self._file: TextIO | None = None
        self._whole_bytes = 0  # length of metrics.csv up to its last complete row
        with self._storage():
            self._open()
        self._wandb = _open_wandb(run) if config.wandb else None

    def _open(self) -> None:
        """Open the configured files that are closed: at the start, and again after a write that failed."""
        if self._config.csv and self._file is None:
            self._file = self._path.open("a", newline="", encoding="utf-8")
            self._rows = csv.writer(self._file)
            self._whole_bytes = self._file.tell()
            if self._whole_bytes == 0:
                self._rows.writerow(COLUMNS)
        if self._config.tensorboard and self._tensorboard is None:
            # Imported only here: it takes a second, which a run without TensorBoard saves.
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self._path.with_name("tensorboard")))

    def write(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Write the values of all metrics at one env step.

        Args:
            env_steps: Env steps that the population has made so far.
            values: Values by name of the metric.

        Raises:
            StorageError: the disk is full or failed; `flush` and `close` raise it too. Values that were not flushed are
                lost, flushed rows stay complete, and later calls append behind them.
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
        """Hand buffered values to the operating system, so that other processes can read them."""
        with self._storage():
            if self._file is not None:
                self._file.flush()
                self._whole_bytes = self._file.tell()
            if self._tensorboard is not None:
                self._tensorboard.flush()

    def close(self) -> None:
        """Flush and close all outputs; nothing may be written afterwards."""
        with self._storage():
            if self._file is not None:
                self._file.close()
            if self._tensorboard is not None:
                self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    @contextmanager
    def _storage(self) -> Iterator[None]:
        """Turn an `OSError` of the enclosed writes into a `StorageError`, after discarding incomplete rows."""
        try:
            yield
        except OSError as exc:
            self._discard_unflushed()
            raise cannot_write(self._path, exc) from exc

    def _discard_unflushed(self) -> None:
        """Close the files, and cut metrics.csv off behind its last complete row.

        After an error neither file object can be written to; `_open` opens new ones.
        """
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
    """Start, or continue, the Weights & Biases run named like the run's directory; None with a warning if that fails.

    The result has no static type, because the package is optional: type checkers must do without it too.
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
            settings=wandb.Settings(console="off"),  # wandb is not to capture what the process prints
        )
        opened.define_metric("*", step_metric=WANDB_AXIS)
    except Exception as exc:  # no login, no network or no disk space: training goes on without it
        reason = " ".join(str(exc).split())
        logger.warning("logging.wandb: wandb cannot start (%s), so metrics go to the run directory only", reason)
        return None
    return opened
