"""`covey table` compares the settings of sweeps by statistics over their runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from covey.cli.run_names import find_sweep
from covey.cli.terminal import say, say_json
from covey.errors import StorageError

WIDTH = 250


def register(app: typer.Typer) -> None:
    """Add `covey table` to the command line."""
    app.command()(table)


def table(
    sweeps: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP...", help="Directories of sweeps, or their names under ./runs.", show_default=False
        ),
    ],
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="STEPS", min=1, help="Scores as they were after so many env steps of each member."
        ),
    ] = None,
    format_: Annotated[
        Literal["text", "md", "latex", "csv", "marl-eval"], typer.Option("--format", help="How the result is printed.")
    ] = "text",
    levels: Annotated[
        Path | None,
        typer.Option(
            "--levels", metavar="FILE", help="YAML file of your own tasks and what random and best play score there."
        ),
    ] = None,
) -> None:
    """Compare settings over their runs: mean, median, IQM with intervals, probability of improvement, curves."""
    from covey.experiments import formats
    from covey.experiments.comparison import at_steps, compare
    from covey.experiments.levels import read_levels
    from covey.experiments.scores import read_scores
    from covey.experiments.sweep_directory import SweepDirectory

    tasks = [*(read_levels(levels) if levels is not None else []), *read_levels()]
    found = read_scores([SweepDirectory(find_sweep(name)) for name in sweeps], tasks)
    scored, missing = found.scored, found.missing
    if at is not None:
        scored, early = at_steps(scored, at)
        missing = [*missing, *early]
    for sentence in missing:
        say(f"covey: left out: {sentence}", error=True)
    if not scored:
        raise StorageError(f"{', '.join(sweeps)}: no run has a score, expected one at least; start the sweep again")
    if format_ == "marl-eval":
        say_json(formats.marl_eval(scored), indent=1)
        return
    comparisons = compare(scored)
    if at is not None:
        comparisons = [replace(c, title=f"{c.title}, after {at:,} env steps") for c in comparisons]
    if format_ == "csv":
        _say_lines(formats.csv_text(comparisons).removesuffix("\n"))
        return
    for one in formats.tables(comparisons):
        if format_ == "text":
            _show(one.title, one.head, one.rows, one.notes)
        else:
            _say_lines(formats.markdown(one) if format_ == "md" else formats.latex(one))


def _say_lines(text: str) -> None:
    """Print a text of several lines."""
    for line in text.split("\n"):
        say(line)


def _show(title: str, head: list[str], rows: list[list[str]], notes: tuple[str, ...]) -> None:
    """Print a table for people."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from covey.cli.tables import plain_console

    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(head):
        shown.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    say(title)
    console = plain_console()
    if not console.is_terminal:
        console.width = WIDTH  # in a file or a pipe nothing is folded
    console.print(shown)
    for note in notes:
        say(note)
    say("")
