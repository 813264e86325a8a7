"""Plots of the pages: PNG files, dark on white, the same bytes whenever they are drawn from the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

COLOURS = ("#1b62a5", "#c8500a", "#2a7f3b", "#7a3d9a", "#8c6d1f", "#444444")
Points = Sequence[Sequence[float]]


def axes(title: str, x_label: str, y_label: str) -> Axes:
    """An empty plot of 7 x 3.8 inches."""
    figure = Figure(figsize=(7, 3.8), layout="constrained", facecolor="white")
    plot = figure.add_subplot()
    plot.set_title(title, fontsize=11, loc="left")
    plot.set_xlabel(x_label)
    plot.set_ylabel(y_label)
    plot.grid(visible=True, color="#dddddd", linewidth=0.6)
    plot.set_axisbelow(True)
    plot.spines[["top", "right"]].set_visible(False)
    return plot


def lines(plot: Axes, curves: Mapping[str, Sequence[Points]], marker: str = "") -> None:
    """Draw curves; those under one name share a colour and an entry in the legend."""
    for colour, (name, several) in zip(COLOURS * len(curves), curves.items(), strict=False):
        for i, points in enumerate(several):
            x, y = zip(*points, strict=True)
            plot.plot(x, y, color=colour, linewidth=1.3, marker=marker, markersize=4, label=None if i else name)


def levels(plot: Axes, references: Mapping[str, float]) -> None:
    """Draw dashed horizontal lines, named at the right; lines that lie close together share one text."""
    texts: list[tuple[float, str]] = []
    close = 0.05 * (max(references.values()) - min(references.values()))
    for name, value in sorted(references.items(), key=lambda item: item[1]):
        plot.axhline(value, color="#222222", linewidth=0.9, linestyle="--")
        if texts and value - texts[-1][0] < close:
            texts[-1] = (texts[-1][0], f"{texts[-1][1]},\n{name}")
        else:
            texts.append((value, name))
    for value, text in texts:
        plot.text(1.01, value, text, transform=plot.get_yaxis_transform(), va="center", fontsize=8, color="#222222")


def bars(plot: Axes, groups: Sequence[str], heights: Mapping[str, Sequence[float]]) -> None:
    """Draw, for each group, one bar of each name, with its height above it."""
    width = 0.8 / len(heights)
    for i, (name, values) in enumerate(heights.items()):
        places = [g - 0.4 + width * (i + 0.5) for g in range(len(groups))]
        drawn = plot.bar(places, values, width * 0.94, color=COLOURS[i % len(COLOURS)], label=name)
        plot.bar_label(drawn, labels=[f"{v:,.3g}" if v < 1000 else f"{v:,.0f}" for v in values], fontsize=8)
    plot.set_xticks(range(len(groups)), groups)
    plot.grid(visible=False, axis="x")
    plot.margins(y=0.25)  # for the legend


def powers_of_two(plot: Axes, values: Sequence[float]) -> None:
    """Make x logarithmic, with a tick at each value."""
    plot.set_xscale("log", base=2)
    plot.set_xticks(values, [f"{v:g}" for v in values])


def thousands(plot: Axes) -> None:
    """Write x in thousands."""
    plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k"))


def save(plot: Axes, path: Path) -> None:
    """Write the plot, with a legend where curves have names."""
    if plot.get_legend_handles_labels()[1]:
        plot.legend(frameon=False, fontsize=8, loc="best")
    figure = plot.get_figure()
    assert isinstance(figure, Figure)
    # Without the name of the program that wrote it, a file changes only when what it shows does.
    figure.savefig(path, dpi=110, metadata={"Software": None})
