"""Several runs that a command line names: one by one, or by their sweeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from covey.cli.run_names import find_run, find_sweep
from covey.cli.terminal import say
from covey.errors import StorageError
from covey.experiments.sweep_directory import SweepDirectory
from covey.run import SWEEP


def named_runs(names: Sequence[str]) -> Iterator[Path]:
    """Yield the directory of every run that is named, each once; the newest run where none is.

    Runs of a sweep that have not begun are left out, which a sentence on stderr says.

    Raises:
        ConfigError: several names begin like that.
        StorageError: there is no such run, or a sweep has none yet.
    """
    seen: set[Path] = set()
    for path, of_sweep in _all(names):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        if of_sweep and not (path / "status.json").is_file():
            say(f"covey: left out: run {path} has not begun", error=True)
            continue
        yield path


def _all(names: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """Directories of the runs, and whether each was named by its sweep."""
    if not names:
        yield find_run(None), False
    for name in names:
        path = find_sweep(name)
        if not (path / SWEEP).is_file():
            yield path, False
            continue
        runs = SweepDirectory(path).runs()
        if not runs:
            raise StorageError(f"sweep {path}: no run has begun, expected one at least; start the sweep")
        yield from ((run, True) for run in runs)
