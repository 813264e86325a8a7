"""`covey runs` lists runs, `covey compare` sets two beside each other, `covey rm` deletes some."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from covey.cli.run_names import RUNS, find_run, find_sweep
from covey.cli.terminal import say, say_json
from covey.errors import ConfigError, StorageError
from covey.run.files import cannot_write, directories

if TYPE_CHECKING:
    from covey.run.summary import RunSummary

Json = Annotated[bool, typer.Option("--json", help="Print JSON, with keys that stay the same between versions.")]

WIDTH = 250

FEW = 3
"""Settings that the list names for a run."""

PLACES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the shorter run's env steps at which curves are compared."""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(runs)
    app.command()(compare)
    app.command()(rm)


def runs(
    folder: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of the runs.")] = RUNS,
    sort: Annotated[
        Literal["age", "name", "best", "env_steps"],
        typer.Option("--sort", help="Newest first, by name, best first, or most env steps first."),
    ] = "age",
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="KEY=VALUE",
            help="Only runs with this value: of state, or of a key of the configuration such as algorithm.name; "
            "repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List runs: their state, what they train, how far they are, their best, and in what settings they differ."""
    from covey.run.summary import differences, runs_in, summarise

    if not folder.is_dir():
        raise StorageError(f"--runs {folder}: no such directory, expected one that holds runs; covey train makes one")
    wanted = [_condition(text) for text in where or []]
    found = [summarise(path) for path in runs_in(folder)]
    found = [run for run in found if all(_value(run, key) == value for key, value in wanted)]
    found.sort(key=lambda run: _place(run, sort))
    differs = differences(found)
    if as_json:
        say_json({"runs": [{**run.to_json(), "differs": differs[run.path]} for run in found]})
        return
    if not found:
        said = f" with {' and '.join(where)}" if where else ""
        say(f"no run in {folder}{said}")
        return
    _show_list(found, differs, folder)
    for run in found:
        if run.fault is not None:
            say(f"covey: {run.path}: {run.fault}", error=True)


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run, as for all commands.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: Json = False,
) -> None:
    """Set two runs beside each other: settings that differ, fitness as they trained, how far apart their scores are."""
    from covey.run.summary import fitness_curve, summarise

    pair = [summarise(find_run(name)) for name in (first, second)]
    for run in pair:
        if run.fault is not None:
            say(f"covey: {run.path}: {run.fault}", error=True)
    keys = sorted({*pair[0].settings, *pair[1].settings})
    settings = {key: [run.settings.get(key) for run in pair] for key in keys}
    settings = {key: values for key, values in settings.items() if values[0] != values[1]}
    curves = [fitness_curve(run) for run in pair]
    apart = _apart(pair)
    if as_json:
        told = {"runs": [run.to_json() for run in pair], "settings": settings, "curves": curves, "difference": apart}
        say_json(told)
        return
    _show_pair(pair, settings, curves)
    for sentence in _said(pair, apart):
        say(sentence)


def rm(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or sweeps with all of their runs.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs with all that they hold, after asking; one that is being trained is refused."""
    from covey.run import SWEEP
    from covey.run.summary import is_trained_now

    chosen = [find_sweep(name) for name in names]
    for path in chosen:
        sweep = (path / SWEEP).is_file()
        if not sweep and not (path / "config.yaml").is_file():
            raise StorageError(f"{path} is no run, expected a directory with config.yaml or {SWEEP}; it stays")
        for run in directories(path) if sweep else [path]:
            if is_trained_now(run):
                raise ConfigError(f"{run} is being trained, expected a run that has ended; covey stop {run} ends it")
    for path in chosen:
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        say(f"{path}: {size / (1 << 20):,.1f} MiB")
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("covey rm asks before it deletes, but nobody can answer here; give --yes")
        if not typer.confirm(f"Delete {'it' if len(chosen) == 1 else f'all {len(chosen)}'}?"):
            raise typer.Exit(1)
    for path in chosen:
        try:
            shutil.rmtree(path)
        except OSError as exc:
            raise cannot_write(path, exc) from exc
        say(f"deleted {path}")


def _condition(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--where {text}: expected KEY=VALUE, such as --where algorithm.name=MATD3")
    return key, value


def _value(run: RunSummary, key: str) -> str:
    """A run's value of a key as a text; empty where it has none."""
    value = run.state if key == "state" else run.settings.get(key, "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _place(run: RunSummary, sort: str) -> tuple[float, str]:
    """The key by which runs are sorted, lowest first: what `--sort` names, negated, then the run's path."""
    value = {"age": run.written_s, "best": run.best, "env_steps": run.env_steps, "name": None}[sort]
    return (math.inf if value is None else -value), str(run.path)


def _show_list(found: Sequence[RunSummary], differs: Mapping[Path, Mapping[str, Any]], folder: Path) -> None:
    from covey.cli.tables import plain_console, seconds_text
    from covey.run.summary import age_s

    rows = []
    for run in found:
        own = [f"{key.rpartition('.')[2]}={value}" for key, value in differs[run.path].items()]
        more = [f"{len(own) - FEW} more"] * (len(own) > FEW)
        rows.append(
            [
                str(run.path.relative_to(folder)),
                run.state,
                run.algorithm or "-",
                (run.environment or "-").rpartition(".")[2],
                "-" if run.seed is None else str(run.seed),
                "-" if run.env_steps is None else f"{run.env_steps:,.0f}",
                _score(run),
                "-" if (age := age_s(run)) is None else seconds_text(age),
                ", ".join([*own[:FEW], *more]),
            ]
        )
    console = plain_console()
    if not console.is_terminal:
        console.width = WIDTH  # in a file or a pipe nothing is folded
    heads = ["run", "state", "algorithm", "environment", "seed", "env steps", "best", "age", "differs in"]
    console.print(_table(heads, rows))


def _show_pair(
    pair: Sequence[RunSummary],
    settings: Mapping[str, Sequence[Any]],
    curves: Sequence[Sequence[tuple[float, float]]],
) -> None:
    from covey.cli.tables import show

    facts = {
        "state": [run.state for run in pair],
        "algorithm": [run.algorithm or "-" for run in pair],
        "environment": [run.environment or "-" for run in pair],
        "seed": ["-" if run.seed is None else str(run.seed) for run in pair],
        "env steps of each member": ["-" if run.env_steps is None else f"{run.env_steps:,.0f}" for run in pair],
        "seconds of training": ["-" if run.wall_s is None else f"{run.wall_s:,.0f}" for run in pair],
        "best": [_score(run) for run in pair],
    }
    shorter = min((run.env_steps or 0 for run in pair), default=0)
    for share in PLACES if shorter else ():
        at = [_newest(curve, share * shorter) for curve in curves]
        if any(value is not None for value in at):
            facts[f"fitness at {share * shorter:,.0f}"] = ["-" if v is None else f"{v:.2f}" for v in at]
    heads = ["", *(_name(run.path) for run in pair)]
    show(_table(heads, [[name, *values] for name, values in facts.items()]))
    if settings:
        rows = [[key, *("-" if value is None else str(value) for value in values)] for key, values in settings.items()]
        show(_table(["setting", "A", "B"], rows))


def _newest(curve: Iterable[tuple[float, float]], env_steps: float) -> float | None:
    return next((value for steps, value in reversed(list(curve)) if steps <= env_steps), None)


def _apart(pair: Sequence[RunSummary]) -> dict[str, float] | None:
    """B's best less A's, with its standard error and 95 % interval; None unless both were confirmed in one task."""
    a, b = pair
    if (
        not (a.best_confirmed and b.best_confirmed)
        or a.environment != b.environment
        or a.best is None
        or b.best is None
    ):
        return None
    error = math.hypot(a.best_stderr or 0.0, b.best_stderr or 0.0)
    value = b.best - a.best
    return {"value": value, "stderr": error, "low": value - 1.96 * error, "high": value + 1.96 * error}


def _said(pair: Sequence[RunSummary], apart: Mapping[str, float] | None) -> list[str]:
    """Sentences below a comparison of two runs: how far their scores are apart, or why that is not told."""
    if pair[0].environment != pair[1].environment:
        return ["they train in different environments: scores cannot be compared"]
    if apart is None:
        return ["no difference is told: a run's best is confirmed in fresh episodes only when the run is complete"]
    interval = f"95 %: {apart['low']:+.2f} to {apart['high']:+.2f}"
    return [
        f"B - A: {apart['value']:+.2f} ± {apart['stderr']:.2f} ({interval}), of these two policies",
        "another seed of training may differ more than that; covey sweep trains several",
    ]


def _score(run: RunSummary) -> str:
    if run.best is None:
        return "-"
    error = "" if run.best_stderr is None else f" ± {run.best_stderr:.2f}"
    return f"{run.best:.2f}{error}" + ("" if run.best_confirmed else " so far")


def _name(path: Path) -> str:
    """A run's name as commands take it: below ./runs without the folder."""
    return str(path.relative_to(RUNS)) if path.is_relative_to(RUNS) else str(path)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
