"""Plots of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.pages import plots
from benchmarks.pages.benchmark_tables import Lines, who
from matplotlib.axes import Axes


def bars_of_job(lines: Lines) -> Axes:
    """Both libraries."""
    plot = plots.axes(f"The page's job, {lines[0]['algorithm']}, population 4", "", "env steps/s")
    rounds = [r["env_steps_per_s"] for r in lines[0]["rounds"]]
    groups = [f"round {i + 1}" for i in range(len(rounds))]
    plots.bars(plot, groups, {"covey": rounds, "AgileRL": lines[0]["peer"]})
    return plot


def bars_of_break_even(lines: Lines) -> Axes:
    """Each way to run, for each cost, as a ratio to one process."""
    plot = plots.axes(
        "Where processes begin to pay", "computation added to an env step", "env steps/s against one process"
    )
    costs = [f"{line['cost_ms']:g} ms" for line in lines]
    plots.bars(
        plot, costs, {n: [line["against_one_process"][n] for line in lines] for n in lines[0]["against_one_process"]}
    )
    return plot


def curves_of_growth(lines: Lines) -> Axes:
    """Latency and cost over the number of actors."""
    plot = plots.axes("Acknowledgements of one learner", "actors", "ms")
    kept = [line for line in lines if line["ack_ms"]]
    points = {f"ack {p}": [[(line["actors"], line["ack_ms"][p]) for line in kept]] for p in kept[0]["ack_ms"]}
    plots.lines(plot, points, marker="o")
    plot.set_yscale("log")
    plots.powers_of_two(plot, [line["actors"] for line in kept])
    return plot


def curves_of_update(lines: Lines) -> Axes:
    """Time of an update over members, by setting and algorithm."""
    plot = plots.axes("One update of a whole population", "members", "ms")
    grid = lines[0]["ms_per_population_update"]
    curves = {
        f"{algorithm}, {setting}": [[(int(size), ms) for size, ms in by_size.items()]]
        for setting, algorithms in grid.items()
        for algorithm, by_size in algorithms.items()
    }
    plots.lines(plot, curves, marker="o")
    plot.set_ylim(bottom=0)
    plots.powers_of_two(plot, sorted({x for (curve,) in curves.values() for x, _ in curve}))
    return plot


def curves_of_score(lines: Lines) -> Axes:
    """Score over seconds since the process started, one curve a seed, and the lines that were to be reached."""
    plot = plots.axes("simple_spread, one policy for three agents", "seconds since the start", "sum of returns")
    curves: dict[str, list[list[list[float]]]] = {}
    for line in lines:
        if "curve" in line:
            curves.setdefault(who(line["who"]), []).append([[point[0], point[3]] for point in line["curve"]])
    plots.lines(plot, curves)
    plots.levels(plot, {key[3:]: float(key[3:]) for key in lines[0] if key.startswith("to ")})
    return plot


PLOTS: dict[str, tuple[Callable[[Lines], bool], Callable[[Lines], Axes]]] = {
    "time_to_score": (lambda lines: "curve" in lines[0], curves_of_score),
    "job_maddpg": (lambda lines: "peer" in lines[0], bars_of_job),
    "job_ippo": (lambda lines: "peer" in lines[0], bars_of_job),
    "job_frequent_updates": (lambda lines: "peer" in lines[0], bars_of_job),
    "population_update": (lambda lines: True, curves_of_update),
    "population_update_evolved": (lambda lines: True, curves_of_update),
    "growth": (lambda lines: any(line.get("ack_ms") for line in lines), curves_of_growth),
    "break_even": (lambda lines: True, bars_of_break_even),
}
"""Whether there is something to draw, and how."""
