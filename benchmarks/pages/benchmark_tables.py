"""Tables of docs/benchmarks.md: what a benchmark printed, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Lines = list[dict[str, Any]]


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def number(value: Any) -> str:
    """As short as it can be told."""
    if value is None:
        return ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.0f}"
    return str(value)


def flat(line: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Figures by dotted name; of a long list its ends, of a list of objects nothing."""
    told: dict[str, str] = {}
    for key, value in line.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            told |= flat(value, f"{name}.")
        elif not isinstance(value, list):
            told[name] = number(value)
        elif value and not isinstance(value[0], Mapping):
            long = len(value) > 5 and all(isinstance(v, int | float) for v in value)
            told[name] = f"{number(min(value))} to {number(max(value))}" if long else ", ".join(map(number, value))
    return told


def figures(lines: Lines) -> str:
    """What was printed: one line as names and values, several as rows; lists of objects as tables of their own."""
    if len(lines) > 1:
        return rows_of(lines)
    told = flat(lines[0])
    text = table(["figure", "value"], [[f"`{name}`", value] for name, value in told.items() if name != "benchmark"])
    parts = [value for value in lines[0].values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return text + "".join(f"\n{rows_of(part)}" for part in parts)


def rows_of(lines: Lines) -> str:
    """A row for each object."""
    told = [flat(line) for line in lines]
    names = [name for name in dict.fromkeys(name for line in told for name in line) if name != "benchmark"]
    return table([f"`{name}`" for name in names], [[line.get(name, "") for name in names] for line in told])


def figures_of_update(lines: Lines) -> str:
    """A row for each figure, setting and algorithm, a column for each number of members."""
    grids = {name: grid for name, grid in lines[0].items() if isinstance(grid, dict)}
    found = {
        f"`{name}`, {setting}, {algorithm}": by_size
        for name, grid in grids.items()
        for setting, algorithms in grid.items()
        for algorithm, by_size in algorithms.items()
    }
    sizes = sorted({size for by_size in found.values() for size in by_size}, key=int)
    head = ["figure, setting, algorithm", *(f"{size} member{'s' if size != '1' else ''}" for size in sizes)]
    text = table(head, [[name, *(number(by[s]) if s in by else "" for s in sizes)] for name, by in found.items()])
    rest = flat({name: value for name, value in lines[0].items() if name not in grids})
    return text + "\n" + ", ".join(f"{name} {value}" for name, value in rest.items()) + "\n"


def figures_of_break_even(lines: Lines) -> str:
    """A row for each way to run, two columns for each cost."""
    head = [
        "",
        *(f"{what}, {line['cost_ms']:g} ms" for line in lines for what in ("env steps/s", "against one process")),
    ]
    return table(
        head,
        [
            [way, *(number(line[k][way]) for line in lines for k in ("env_steps_per_s", "against_one_process"))]
            for way in lines[0]["env_steps_per_s"]
        ],
    )


WHO = {"sb3_ppo": "stable-baselines3's PPO", "jax_ppo": "a PPO in JAX"}
"""Libraries beside covey, by a word of the command that trains with them."""


def who(command: str) -> str:
    """Return the name of the library that a command of time_to_score.py trains with, for people; ours is "covey"."""
    return next((name for word, name in WHO.items() if word in command), command)


def figures_of_score(lines: Lines) -> str:
    """A row for each library: medians over the seeds."""
    summary = lines[-1].get("summary", {})
    ends = [key for of in summary.values() for key in of if key.startswith("to ")]
    names = list(dict.fromkeys(ends))
    head = ["", "env steps/s", "a CPU second", *(f"seconds to {n[3:]}" for n in names)]
    head += [f"env steps to {n[3:]}" for n in names]
    rows = []
    for command, of in summary.items():
        there = [of[n] or {} for n in names]
        row = [who(command), number(of["env_steps_per_s"]), number(of["env_steps_per_cpu_s"])]
        rows.append([*row, *(number(t.get("seconds")) for t in there), *(number(t.get("env_steps")) for t in there)])
    return table(head, rows)


FIGURES: dict[str, Callable[[Lines], str]] = {
    "population_update": figures_of_update,
    "population_update_evolved": figures_of_update,
    "population_update_two_threads": figures_of_update,
    "break_even": figures_of_break_even,
    "time_to_score": figures_of_score,
}
"""Tables for what the plain one would not show well."""
