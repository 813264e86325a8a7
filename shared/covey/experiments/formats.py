"""Comparisons as tables for people (text, Markdown, LaTeX) and as numbers for programs (CSV, marl-eval's JSON)."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from covey.experiments.comparison import THRESHOLDS, Comparison, Group
from covey.experiments.scores import Score
from covey.experiments.statistics import FEWEST_RUNS, Estimate

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people: a title, the names of its columns, rows of as many texts, and lines to print below."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def tables(comparisons: Sequence[Comparison]) -> Iterator[Table]:
    """The tables of comparisons: of each the statistics, pairs, the performance profile and the curve."""
    for comparison in comparisons:
        yield _statistics(comparison)
        if comparison.better:
            rows = [[a, b, _span(e, 2)] for (a, b), e in comparison.better.items()]
            yield Table(f"{comparison.title}: probability of improvement", ["of", "over", "probability"], rows)
        if f"share above {THRESHOLDS[0]:g}" in comparison.groups[0].statistics:
            head = ["settings", *(f"above {t:g}" for t in THRESHOLDS)]
            rows = [
                [g.label, *(_span(g.statistics[f"share above {t:g}"], 2) for t in THRESHOLDS)]
                for g in comparison.groups
            ]
            yield Table(f"{comparison.title}: share of runs above a normalised score", head, rows)
        if steps := sorted({s for g in comparison.groups for s in g.curve}):
            head = ["env steps", *(g.label for g in comparison.groups)]
            rows = [
                [f"{s:,.0f}", *(_span(g.curve[s], 1) if s in g.curve else "" for g in comparison.groups)] for s in steps
            ]
            yield Table(f"{comparison.title}: IQM by env steps of each member", head, rows)


def _statistics(comparison: Comparison) -> Table:
    """The table with a row of statistics for each of the settings."""
    first = comparison.groups[0]
    raw = [name for name in ("mean", "median", "IQM") if name in first.statistics]
    shown = [*raw, *(n for n in ("normalised IQM", "optimality gap") if n in first.statistics)]
    rows = []
    for g in comparison.groups:
        cells = [_span(g.statistics[n], 1 if n in raw else 3) for n in shown]
        ends = [f"{run.score:.1f} ({run.seed})" for run in _ends(g)]
        wall_s = statistics.median(run.wall_s for run in g.runs)
        rows.append([g.label, str(len(g.runs)), *cells, *ends, f"{wall_s:,.0f} s"])
    return Table(
        comparison.title,
        ["settings", "runs", *shown, "best (seed)", "worst (seed)", "wall time"],
        rows,
        tuple(_notes(comparison)),
    )


def _notes(comparison: Comparison) -> Iterator[str]:
    """What a reader should know of a comparison's numbers."""
    score = comparison.groups[0].runs[0]
    yield (
        f"Score: mean return of {score.episodes:,} episodes that nobody trained or chose by. In brackets: 95 % "
        "stratified bootstrap intervals. Wall time: median."
    )
    if score.task is not None and comparison.title.startswith(score.task.title):
        levels = ", ".join(f"{level.name} {level.score:g}" for level in score.task.levels)
        yield f"Levels, of which the first is normalised to 0 and the last to 1: {levels}."
    if len({run.episodes for g in comparison.groups for run in g.runs}) > 1:
        yield "Runs were evaluated on different numbers of episodes."
    few = [g.label for g in comparison.groups if len(g.runs) < FEWEST_RUNS]
    if few:
        yield f"Fewer than {FEWEST_RUNS} runs, whose intervals say next to nothing: {', '.join(few)}."


def _ends(group: Group) -> tuple[Score, Score]:
    """The best and the worst run."""
    return max(group.runs, key=lambda run: run.score), min(group.runs, key=lambda run: run.score)


def _span(value: Estimate, digits: int) -> str:
    """A number with its interval."""
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def markdown(table: Table) -> str:
    """A table in Markdown, numbers to the right."""
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)], *table.rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    body = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return "\n\n".join([f"### {table.title}", body, *table.notes]) + "\n"


def latex(table: Table) -> str:
    """A table in LaTeX, for the package booktabs."""
    lines = [f"{' & '.join(map(_latex, line))} \\\\" for line in (table.head, *table.rows)]
    notes = [f"\\par\\footnotesize {_latex(note)}" for note in table.notes]
    return "\n".join(
        [
            *("\\begin{table}", "\\centering", f"\\caption{{{_latex(table.title)}}}"),
            f"\\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            *("\\toprule", lines[0], "\\midrule", *lines[1:], "\\bottomrule"),
            *("\\end{tabular}", *notes, "\\end{table}", ""),
        ]
    )


def _latex(text: str) -> str:
    """A text in which no character has a meaning for LaTeX."""
    return "".join(LATEX.get(c, c) for c in text)


def csv_text(comparisons: Sequence[Comparison]) -> str:
    """All numbers in long format: task, settings, statistic, at (env steps, a seed, or other settings), value, ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "settings", "runs", "statistic", "at", "value", "low", "high"])
    for c in comparisons:
        for g in c.groups:
            head = [c.title, g.label, len(g.runs)]
            writer.writerows([*head, name, "", e.value, e.low, e.high] for name, e in g.statistics.items())
            writer.writerows([*head, "IQM by env steps", s, e.value, e.low, e.high] for s, e in g.curve.items())
            writer.writerows([*head, "score", run.seed, run.score, "", ""] for run in g.runs)
            writer.writerows([*head, "wall_s", run.seed, run.wall_s, "", ""] for run in g.runs)
        runs = {g.label: len(g.runs) for g in c.groups}
        writer.writerows(
            [c.title, a, runs[a], "probability of improvement", b, e.value, e.low, e.high]
            for (a, b), e in c.better.items()
        )
    return out.getvalue()


def marl_eval(scores: Sequence[Score]) -> dict[str, Any]:
    """The curves and scores as the JSON that marl-eval reads: environment, task, algorithm, run, step."""
    result: dict[str, Any] = {}
    for score in scores:
        words = re.split(r"[\s,]+", score.environment, maxsplit=1)
        suite = "mpe" if score.task is not None and "mpe" in score.task.environments[0] else words[0]
        steps = {
            f"step_{i}": {"step_count": round(env_steps), "return": [value]}
            for i, (env_steps, value) in enumerate(score.curve)
        }
        runs = result.setdefault(suite, {}).setdefault(score.environment, {}).setdefault(score.label, {})
        runs[f"seed_{score.seed}"] = {**steps, "absolute_metrics": {"return": [score.score]}}
    return result
