"""Writes the points of a run's curves: into its directory, and to the services that the configuration names."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from covey.config import Config
from covey.config.dotted import dotted
from covey.run.directory import RunDirectory
from covey.run.files import cannot_write
from covey_server.curves.points import Point
from covey_server.curves.services import open_services

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = ("wall_s", "env_steps", "name", "value", "member_id")


class CurveWriter:
    """Writer of a run's curves, which are numbers with a name and the env step at which they were taken.

    metrics.csv has one row for each value, so that curves may begin or end at any time. Its columns are `wall_s`
    (seconds of training, restarts left out), `env_steps` (of the whole population), `name`, `value` and `member_id` (of
    curves of a place in the population: who has it; else empty); a resumed run appends. TensorBoard, Weights & Biases,
    MLflow and trackio get the same names, drawn over env steps, the configuration, and the run's result when it ends.

    Args:
        run: The run's directory.
        config: The run's configuration: section `logging` says which outputs to write.

    Raises:
        StorageError: a file cannot be opened.
    """

    def __init__(self, run: RunDirectory, config: Config) -> None:
        self._config = config
        self._path = run.metrics
        self._tensorboard: SummaryWriter | None = None
        self._file: TextIO | None = None
        self._columns: tuple[str, ...] = COLUMNS
        self._whole_bytes = 0  # length of metrics.csv up to its last complete row
        with self._storage():
            self._open()
            self._write_configuration()
        self._services = open_services(run, config)

    def _open(self) -> None:
        """Open the configured files that are closed: at the start, and again after a write that failed."""
        logging = self._config.logging
        if logging.csv and self._file is None:
            self._file = self._path.open("a+", newline="", encoding="utf-8")
            self._rows = csv.writer(self._file)
            self._whole_bytes = self._file.tell()
            if self._whole_bytes == 0:
                self._rows.writerow(self._columns)
            else:  # a run from before there was a column `member_id` goes on without
                self._file.seek(0)
                self._columns = COLUMNS[: len(next(csv.reader(self._file)))]
                self._file.seek(0, os.SEEK_END)
        if logging.tensorboard and self._tensorboard is None:
            # Imported only here: it takes a second, which a run without TensorBoard saves.
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self._path.with_name("tensorboard")))

    def _write_configuration(self) -> None:
        """Show the configuration in TensorBoard, as it is in the run's directory."""
        if self._tensorboard is not None:
            text = self._path.with_name("config.yaml")
            if text.exists():
                indented = "".join(f"    {line}\n" for line in text.read_text().splitlines())
                self._tensorboard.add_text("configuration", indented)

    def write(self, points: Sequence[Point]) -> None:
        """Write points of curves.

        Raises:
            StorageError: the disk is full or failed; `flush` and `close` raise it too. Points that were not flushed are
                lost, flushed rows stay complete, and later calls append behind them.
        """
        with self._storage():
            self._open()
            if self._file is not None:
                self._rows.writerows(
                    (round(p.wall_s, 3), p.env_steps, p.name, p.value, "" if p.member_id is None else p.member_id)[
                        : len(self._columns)
                    ]
                    for p in points
                )
            if self._tensorboard is not None:
                for p in points:
                    self._tensorboard.add_scalar(p.name, p.value, p.env_steps)
        for env_steps, values in _moments(points):
            for service in self._services:
                service.log(env_steps, values)

    def flush(self) -> None:
        """Hand buffered values to the operating system, so that other processes can read them."""
        with self._storage():
            if self._file is not None:
                self._file.flush()
                self._whole_bytes = self._file.tell()
            if self._tensorboard is not None:
                self._tensorboard.flush()

    def close(self, result: Mapping[str, Any]) -> None:
        """Write what came of the run, then flush and close all outputs; nothing may be written afterwards.

        Args:
            result: The run's result, as `result.json` has it.
        """
        with self._storage():
            if self._file is not None:
                self._file.close()
            if self._tensorboard is not None:
                if result.get("best_fitness") is not None:
                    settings = {name: _plain(value) for name, value in dotted(self._config.model_dump(mode="json"))}
                    best = {"hparams/fitness": result["best_fitness"]}
                    self._tensorboard.add_hparams(settings, best, run_name=".")
                self._tensorboard.close()
        for service in self._services:
            service.end(result)

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


def _moments(points: Sequence[Point]) -> Iterator[tuple[int, dict[str, float]]]:
    """Points by env step, in the order in which they came; two of one curve are two moments."""
    values: dict[str, float] = {}
    env_steps = 0
    for point in points:
        if values and (point.env_steps != env_steps or point.name in values):
            yield env_steps, values
            values = {}
        env_steps = point.env_steps
        values[point.name] = point.value
    if values:
        yield env_steps, values


def _plain(value: Any) -> bool | int | float | str:
    """A setting as TensorBoard takes it."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
