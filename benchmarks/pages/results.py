"""Write docs/results.md and its plots from docs/results.json: `python -m benchmarks.pages.results [--check]`.

benchmarks/learning.py makes the data. With --check nothing is written; the exit status is 1 if the page is not what the
data give, or a plot is missing.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.pages import plots
from benchmarks.pages.levels import Task, task

from covey.config import load_config
from covey.experiments.statistics import FEWEST_RUNS, estimate, iqm

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
DATA = ROOT / "docs" / "results.json"

Run = Mapping[str, Any]

HEAD = """# Results

What the jobs in `examples/` learn, how far that is from what could be learned and from what others have published, and
what it takes. A job is a sweep: `covey sweep` trains it with several seeds, from 100 on, none of which was used to
choose its settings, and plays each run's best policy, without exploration, in 1,000 episodes that it was never trained
or selected on. Runs with seeds below 100 were judged by 400 such episodes, and may have been used to choose settings.

Several runs are summed up by their median and their interquartile mean (IQM), the mean of the middle half, with the
95 % interval of a bootstrap over the runs; the worst and the best stand beside them. The standard error of one run's
score is in the table of its runs. Scores after fewer env steps are those of the generation that had ended by then.

Wall time is that of training, with acting, learning and evaluation in it. It belongs to the machine and to what else
that was doing; scores do not. Env steps are each member's, and count every `step()` of one environment, whatever the
number of its agents.

Published scores are of single policies, in units of today's environments; most of them took more env steps.

Written by `make results` from [results.json](results.json), which `.venv/bin/python -m benchmarks.learning` makes.
"""


def page(runs: Sequence[Run]) -> str:
    """The whole page."""
    tasks = by_task(runs)
    return HEAD + summary(runs) + "".join(chapter(one, mine) for one, mine in tasks)


def task_of(run: Run) -> Task:
    """The task of a run."""
    settings = [f"{key}={json.dumps(value)}" for key, value in run["settings"].items()]
    environment = load_config(ROOT / run["config"], settings).environment
    return task(environment.name, environment.config)


def by_task(runs: Sequence[Run]) -> list[tuple[Task, list[Run]]]:
    """Runs of each task, in the order of the data."""
    found: dict[str, tuple[Task, list[Run]]] = {}
    for mine in by_job(runs).values():
        one = task_of(mine[0])
        found.setdefault(one.title, (one, []))[1].extend(mine)
    return list(found.values())


def by_job(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of each job, in their order."""
    return {job: [run for run in runs if run["job"] == job] for job in dict.fromkeys(run["job"] for run in runs)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    rule = ["---" if i == 0 else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def readings(runs: Sequence[Run]) -> list[tuple[int, list[float], float]]:
    """Env steps, the runs' scores and their median seconds by then: after each budget of the job, and at the end."""
    found = []
    for budget in runs[0].get("read_at", ()):
        read = [_newest(run["curve"], budget) for run in runs]
        if all(point is not None for point in read):
            points = [point for point in read if point is not None]
            seconds = statistics.median(seconds for *_, seconds in points)
            found.append((budget, [score for _, score, *_ in points], seconds))
    end = statistics.median(run["wall_s"] for run in runs)
    return [*found, (runs[0]["env_steps"], [run["score"] for run in runs], end)]


def _newest(curve: Sequence[Sequence[float]], env_steps: int) -> Sequence[float] | None:
    """The last point of a curve that is not beyond these env steps."""
    return next((point for point in reversed(curve) if point[0] <= env_steps), None)


def row(env_steps: int, scores: Sequence[float], seconds: float) -> list[str]:
    """A reading as cells."""
    middle = estimate(iqm, [np.asarray(scores)])
    interval = f" ({middle.low:.1f} to {middle.high:.1f})" if len(scores) >= FEWEST_RUNS else ""
    cells = [f"{len(scores)}", f"{env_steps:,}", f"{seconds:,.0f} s", f"**{statistics.median(scores):.1f}**"]
    return [*cells, f"{middle.value:.1f}{interval}", f"{min(scores):.1f}", f"{max(scores):.1f}"]


def summary(runs: Sequence[Run]) -> str:
    """A row for each job at its end."""
    rows = []
    for job, mine in by_job(runs).items():
        link = f"[{job}](#{job})"
        if mine[0]["games"]:
            lost = max(lost for shares in _shares(mine).values() for lost, *_ in shares)
            seconds = statistics.median(run["wall_s"] for run in mine)
            told = f"loses {lost:.1%} at worst"
            rows.append([link, f"{len(mine)}", f"{mine[0]['env_steps']:,}", f"{seconds:,.0f} s", told, "", ""])
            continue
        levels = task_of(mine[0]).levels
        last = row(*readings(mine)[-1])
        rows.append([link, *last[:5], f"{levels[0].score:.1f} to {levels[-1].score:.1f}"])
    head = ["job", "runs", "env steps", "wall time", "median", "IQM (95 %)", "from random to best known"]
    return "\n" + table(head, rows)


def chapter(about: Task, runs: Sequence[Run]) -> str:
    """A task: its plot, its levels, its jobs."""
    drawn = f"![Learning curves]({about.picture})\n\n" if curves(runs) else ""
    text = f"\n## {about.title}\n\n{drawn}Score: {about.unit}.\n\n"
    text += table(
        ["without learning", "score", "policy"],
        [[v.name, plus_minus(v.score, v.stderr or 0.0), v.how] for v in about.levels],
    )
    text += f"\n{about.source}\n"
    if about.published:
        rows = [[p.algorithm, p.env_steps, f"{p.score:.1f}"] for p in about.published]
        text += "\n" + table(["published", "env steps", "score"], rows)
    return text + "".join(section(job, mine) for job, mine in by_job(runs).items())


def section(job: str, runs: Sequence[Run]) -> str:
    """A job: what its runs show, each of them, how to repeat them."""
    text = f"\n### {job}\n\n"
    head = ["seed", "wall time"]
    rows = [[f"{run['seed']}", f"{run['wall_s']:,.0f} s"] for run in runs]
    if runs[0]["games"]:
        text += f"One policy plays both sides, {runs[0]['episodes']:,} games of each kind.\n\n"
        for (player, seat), shares in _shares(runs).items():
            head.append(f"{player}, as {seat}: lost, won, drawn")
            for cells, lost_won_drawn in zip(rows, shares, strict=True):
                cells.append(", ".join(f"{share:.1%}" for share in lost_won_drawn))
    else:
        several = ["runs", "env steps", "wall time", "median", "IQM (95 %)", "worst", "best"]
        text += table(several, [row(*reading) for reading in readings(runs)]) + "\n"
        head.append("score")
        for cells, run in zip(rows, runs, strict=True):
            cells.append(plus_minus(run["score"], run["stderr"]))
    return f"{text}{table(head, rows)}\n```sh\n{commands(job, runs)}```\n"


def plus_minus(value: float, error: float) -> str:
    """A figure with its standard error, if it has one."""
    return f"{value:.1f} ± {error:.1f}" if error else f"{value:.3f}"


def _shares(runs: Sequence[Run]) -> dict[tuple[str, str], list[tuple[float, float, float]]]:
    """Lost, won and drawn of each run, by whom it was played against and by the agent that it played."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for run in runs:
        for game in run["games"]:
            shares = (game["loss"], game["win"], game["draw"])
            found.setdefault((game["against"], game["seat"]), []).append(shares)
    return found


def commands(job: str, runs: Sequence[Run]) -> str:
    """The shell commands that train a job: all of its runs at once, and one run by itself with its evaluation."""
    run = runs[0]
    seeds = ",".join(str(r["seed"]) for r in runs)
    text = f".venv/bin/python -m benchmarks.learning {job} --runs runs --seeds {seeds}\n"
    settings = "".join(f" --set {key}={json.dumps(value)}" for key, value in run["settings"].items())
    text += f"# one by one\n.venv/bin/covey train {run['config']} --set training.seed={run['seed']}{settings}\n"
    if run["games"]:
        return f"{text}.venv/bin/python -m benchmarks.games RUN --games {run['episodes']}\n"
    return f"{text}.venv/bin/covey evaluate RUN --episodes {run['episodes']}\n"


def curves(runs: Sequence[Run]) -> dict[str, list[list[tuple[float, float]]]]:
    """The curves of each job's runs, of jobs that have some."""
    of = {
        job: [[(x, y) for x, y, *_ in run["curve"]] for run in mine if run["curve"] and not run["games"]]
        for job, mine in by_job(runs).items()
    }
    return {job: several for job, several in of.items() if several}


def draw(about: Task, runs: Sequence[Run], path: Path) -> None:
    """What the fittest members of generations scored in episodes of their own, among the levels."""
    plot = plots.axes(about.title, "env steps of each member", "score of the fittest member")
    plots.levels(plot, {level.name: level.score for level in about.levels})
    plots.lines(plot, curves(runs))
    plot.set_xlim(left=0)
    plots.thousands(plot)
    plots.save(plot, path)


def main() -> None:
    """Write or compare."""
    runs = json.loads(DATA.read_text())
    fresh = page(runs)
    drawn = {PAGE.with_name(about.picture): (about, mine) for about, mine in by_task(runs) if curves(mine)}
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(fresh)
        for path, (about, mine) in drawn.items():
            draw(about, mine, path)
    elif not PAGE.exists() or PAGE.read_text() != fresh or not all(path.exists() for path in drawn):
        sys.exit("docs/results.md is stale; run `make results`")


if __name__ == "__main__":
    main()
