"""What RUN means, by one rule for all commands: a path, a name under ./runs, its beginning, or the newest run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covey.cli.terminal import say
from covey.errors import ConfigError, StorageError
from covey.run import SWEEP
from covey.run.files import directories

RUNS = Path("runs")

MOST_NAMED = 5
"""Most runs that an error lists by name."""

RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Directory of a run, its name under ./runs, or the beginning of that name; the newest under ./runs if "
        "left out.",
        show_default=False,
    ),
]
"""The argument RUN of a command, to be resolved by `find_run`."""

RunNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN...",
        help="Directory of a run, its name under ./runs, or the beginning of that name; the newest under ./runs if "
        "left out.",
        show_default=False,
    ),
]
"""The argument of a command that takes several runs."""


def find_run(name: str | None) -> Path:
    """Return the directory of the run that RUN on the command line means; says which, if it is the newest.

    Raises:
        ConfigError: several names begin like that.
        StorageError: there is no such run.
    """
    if name is None:
        newest = newest_run()
        say(f"covey: the newest run is {newest}", error=True)
        return newest
    found = _found(name)
    if (found / SWEEP).is_file():
        runs = sorted(p.name for p in directories(found) if (p / "config.yaml").is_file())
        such = f", such as {found / runs[0]}" if runs else ""
        raise ConfigError(f"run {name}: {found} is a sweep of {len(runs)} runs, expected one of them{such}; name one")
    return found


def find_sweep(name: str) -> Path:
    """Return the directory of the sweep that a command line names: a path, or a name under ./runs.

    Raises:
        ConfigError, StorageError: as `find_run`.
    """
    return _found(name)


def _found(name: str) -> Path:
    """The directory that a name on the command line means, a run's or a sweep's."""
    if Path(name).is_dir():
        return Path(name)
    if (RUNS / name).is_dir() and not Path(name).is_absolute():
        return RUNS / name  # also the name of a run in a sweep, SWEEP/RUN
    wanted = Path(name) if Path(name).parent.name else RUNS / name
    if not wanted.parent.is_dir() and (RUNS / name).parent.is_dir():
        wanted = RUNS / name
    found = [p for p in directories(wanted.parent) if wanted.name and p.name.startswith(wanted.name)]
    if len(found) > 1:
        named = ", ".join(p.name for p in found[:MOST_NAMED]) + ", ..." * (len(found) > MOST_NAMED)
        raise ConfigError(
            f"run {name}: {len(found)} runs in {wanted.parent} begin like that: {named}; name one of them"
        )
    if not found:
        raise StorageError(
            f"run {name}: no such directory, and no run in {wanted.parent} begins like that; ls {wanted.parent} lists "
            "them, --learner HOST:PORT asks a learner elsewhere"
        )
    return found[0]


def newest_run() -> Path:
    """Return the run's directory under ./runs that was written to last.

    Raises:
        StorageError: there is none.
    """
    found = [run for p in directories(RUNS) for run in (directories(p) if (p / SWEEP).is_file() else [p])]
    if not found:
        raise StorageError(
            f"./{RUNS} holds no run; start one with covey train FILE, or give the directory of one as RUN"
        )
    return max(found, key=lambda p: p.stat().st_mtime)
