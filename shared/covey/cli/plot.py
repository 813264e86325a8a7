"""`covey plot` draws curves of runs into a picture, with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covey.cli.named_runs import named_runs
from covey.cli.run_names import RunNames
from covey.cli.terminal import say
from covey.errors import ConfigError

if TYPE_CHECKING:
    from covey.experiments.bands import Band

FORMATS = (".png", ".svg", ".pdf")

COLOURS = ("#1b62a5", "#c8500a", "#2a7f3b", "#7a3d9a", "#8c6d1f", "#444444")
"""Tell each other apart in print and for those who see few colours."""


def register(app: typer.Typer) -> None:
    """Add `covey plot` to the command line."""
    app.command()(plot)


def plot(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The picture: .png, .svg or .pdf.")],
    runs: RunNames = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Curve to draw, as metrics.csv names it; repeatable, one plot below the other.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Line above the picture.")] = None,
) -> None:
    """Draw curves of runs and sweeps: means of runs that differ in their seed alone, with 95 % intervals.

    Example: covey plot runs/mappo_spread --metric fitness/best --metric train/return --out curves.png
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: expected a name that ends in {', '.join(FORMATS)}")
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError as exc:
        raise ConfigError("covey plot needs matplotlib: pip install 'covey-marl[plots]'") from exc
    from covey.experiments.bands import bands
    from covey.run.files import cannot_write
    from covey.run.summary import summarise

    summaries = [summarise(path) for path in named_runs(runs or [])]
    chosen = metrics or ["fitness/best"]
    figure = draw({name: bands(summaries, name) for name in chosen}, title)
    try:
        figure.savefig(out, dpi=150)
    except OSError as exc:
        raise cannot_write(out, exc) from exc
    say(f"{out}: {', '.join(chosen)} of {len(summaries)} {'run' if len(summaries) == 1 else 'runs'}")


def draw(curves: dict[str, Sequence[Band]], title: str | None = None) -> Any:
    """Draw bands of each curve, one plot below the other; returns matplotlib's figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7, 0.6 + 3.2 * len(curves)), layout="constrained", facecolor="white")
    plots = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, found) in zip(plots, curves.items(), strict=True):
        for colour, band in zip(COLOURS * len(found), found, strict=False):
            label = band.label if band.runs == 1 else f"{band.label} ({band.runs} runs)"
            axes.plot(band.env_steps, band.mean, color=colour, linewidth=1.4, label=label)
            if band.runs > 1:
                axes.fill_between(band.env_steps, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
        axes.set_ylabel(name)
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if len(found) > 1:
            axes.legend(fontsize=8, frameon=False)
    plots[-1].set_xlabel("env steps of each member")
    plots[-1].xaxis.set_major_formatter(EngFormatter(sep=" "))
    figure.suptitle(title or "", fontsize=11, x=0.01, ha="left")
    return figure
