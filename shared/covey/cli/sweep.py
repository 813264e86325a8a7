"""`covey sweep` trains a configuration with many seeds and settings, each combination as a run of its own."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covey.cli.terminal import say, say_json
from covey.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from covey.experiments.sweeping import Progress, Show

MOST_ROWS = 20
"""Most runs that the picture of a sweep lists one by one."""

EPISODES = 1000
"""Episodes that evaluate a run: of 100, the mean of one run in speaker_listener is off by 1.2, of 1,000 by 0.4."""

TRIALS = 20
"""Settings that Optuna chooses, where `--trials` does not say."""

PICTURE_S = 0.5
"""Seconds between two pictures."""


def register(app: typer.Typer) -> None:
    """Add `covey sweep` to the command line."""
    app.command()(sweep)


def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML file that configures the runs.", show_default=False)
    ],
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds", metavar="N-M", help="Seeds that every combination is trained with, such as 0-9 or 0,2,5."
        ),
    ] = "0-9",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=V1,V2",
            help="Train with each of these values, in all combinations; repeatable. One value alone is for all runs. "
            "With --optuna also a range, LOW..HIGH.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, max=256, help="Runs that are trained at a time.")
    ] = 1,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="DIR", help="Directory in which the sweep gets its own.")
    ] = Path("runs"),
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="SWEEP", help="Name of the sweep's directory; that of the file if left out."),
    ] = None,
    episodes: Annotated[
        int,
        typer.Option(
            "--episodes",
            min=1,
            max=1_000_000,
            help="Fresh episodes that evaluate each run when it is complete; its kept generations play 100 at most.",
        ),
    ] = EPISODES,
    optuna: Annotated[
        bool, typer.Option("--optuna", help="Let Optuna choose the settings, by the mean score over the seeds.")
    ] = False,
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            metavar="N",
            min=1,
            max=10_000,
            help=f"With --optuna: settings that are tried in all; {TRIALS} if left out.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print how the runs ended as JSON.")] = False,
) -> None:
    """Train every combination of seeds and settings as a run of its own, in RUNS/SWEEP/.

    The same command goes on with a sweep that was stopped. Several processes, on several machines with one file system,
    may work on a sweep: each run is trained by one of them.
    """
    from covey.experiments.grid import combinations, parse_seeds, parse_values
    from covey.experiments.prepared import Prepared, fixed_and_varied
    from covey.experiments.sweep_directory import SweepDirectory
    from covey.experiments.sweeping import Sweeping, stopping

    if trials is not None and not optuna:
        raise ConfigError(
            f"--trials {trials} was given without --optuna, expected both; add --optuna, or leave --trials out"
        )
    if optuna:
        from covey.experiments.study import parse_ranges

        values, ranges = parse_ranges(set_ or [])
    else:
        values, ranges = parse_values(set_ or []), {}
    fixed, varied = fixed_and_varied(values)
    prepared = Prepared(file, fixed)
    directory = SweepDirectory(runs / _directory_name(name or prepared.config().name))
    numbers = parse_seeds(seeds)
    with _shown(directory.path) as (show, tell):
        sweeping = Sweeping(directory, prepared, jobs, episodes, show, tell)
        if optuna:
            from covey.experiments.study import Study

            study = Study(directory, prepared, varied, ranges, numbers, trials or TRIALS)
            with stopping(sweeping.progress, tell):
                progress = study.run(sweeping, tell)
        else:
            chosen = combinations(varied, numbers)
            prepared.check(chosen)
            directory.enter(prepared.plan(varied, numbers))
            with stopping(sweeping.progress, tell):
                progress = sweeping.train(chosen)
    again = ["covey", "sweep", str(file), "--seeds", seeds, *(f"--set={text}" for text in set_ or []), f"--jobs={jobs}"]
    again += [f"--runs={runs}"] * (runs != Path("runs")) + ([f"--name={name}"] if name else [])
    again += (
        [f"--episodes={episodes}"] * (episodes != EPISODES)
        + ["--optuna"] * optuna
        + [f"--trials={trials}"] * (trials is not None)
    )
    _say_end(progress, directory.path, shlex.join(again))
    if as_json:
        say_json(_as_json(progress, directory.path))
    raise typer.Exit(_exit_code(progress))


def _directory_name(name: str) -> str:
    """The name itself, if it can be a directory's.

    Raises:
        ConfigError: it is a path.
    """
    if not name.isprintable() or "/" in name or name in ("", ".", ".."):
        raise ConfigError(
            f"--name {name[:80]!r}: expected a name of a directory that is no path; --runs says where it is made"
        )
    return name


def _exit_code(progress: Progress) -> int:
    """128 plus the number of the signal that ended the sweep, else the exit code of the first failed run, else 0."""
    if progress.signal is not None:
        return 128 + progress.signal
    return progress.failures[0].exit_code if progress.failures else 0


def _as_json(progress: Progress, path: Path) -> dict[str, Any]:
    """How the runs of a sweep ended."""
    failures = {failure.run.name: failure for failure in progress.failures}
    return {
        "sweep": str(path),
        "runs": [
            {
                "run": str(path / name),
                "state": state.value,
                "exit_code": failures[name].exit_code if name in failures else None,
                "error": failures[name].words if name in failures else None,
            }
            for name, state in progress.states.items()
        ],
    }


def _say_end(progress: Progress, path: Path, again: str) -> None:
    """Say on standard error how the runs ended, and what comes next."""
    from covey.experiments.run_process import State

    for failure in progress.failures:
        say(f"covey: run {failure.run} failed with exit code {failure.exit_code}: {failure.words}", error=True)
    counts = ", ".join(f"{n} {state.value}" for state in State if (n := progress.count(state)))
    say(f"sweep {path}: {counts or 'no runs'}", error=True)
    if progress.count(State.ELSEWHERE):
        say(
            "covey: other processes train the runs that are elsewhere; the same command takes what they leave",
            error=True,
        )
    if all(state is State.COMPLETE for state in progress.states.values()):
        say("complete; next:", error=True)
        say(f"  covey table {path}", error=True)
    elif progress.count(State.STOPPED) or progress.count(State.WAITING) or progress.failures:
        say("to go on:", error=True)
        say(f"  {again}", error=True)


@contextmanager
def _shown(path: Path) -> Iterator[tuple[Show, Callable[[str], None]]]:
    """Show a sweep on standard error: as a picture where it is a terminal, as lines elsewhere."""
    from rich.live import Live

    from covey.cli.tables import plain_console

    console = plain_console(stderr=True)
    if not console.is_terminal:
        yield (lambda progress: None), (lambda line: say(line, error=True))
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        shown_s = 0.0

        def show(progress: Progress) -> None:
            nonlocal shown_s
            if time.monotonic() - shown_s >= PICTURE_S:
                shown_s = time.monotonic()
                live.update(_picture(progress, path), refresh=True)

        yield show, lambda line: console.print(line, soft_wrap=True, highlight=False)


def _picture(progress: Progress, path: Path) -> RenderableType:
    """How a sweep stands: its counts, and a row for each run at work."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    from covey.experiments.run_process import State

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("state")
    for column in ("done", "env steps/s", "best", "minutes"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, process in list(progress.running.items())[:MOST_ROWS]:
        status = process.status()
        total = (status.get("max_steps") or 0) * (status.get("population_size") or 0)
        best = status.get("best_fitness")
        table.add_row(
            name,
            process.state.value,
            f"{status['env_steps'] / total:.0%}" if total else "-",
            f"{status.get('env_steps_per_s', 0):,.0f}",
            "-" if best is None else f"{best:.2f}",
            f"{process.seconds / 60:.1f}",
        )
    counts = ", ".join(f"{n} {state.value}" for state in State if (n := progress.count(state)))
    return Group(f"sweep {path}: {len(progress.states)} runs, {counts}", table)
