"""Write docs/results.md and its plots from docs/results.json: `python -m benchmarks.pages.results [--check]`.

benchmarks/learning.py makes the data. With --check nothing is written; the exit status is 1 if the page is not what the
data give, or a plot is missing.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.pages import plots
from benchmarks.pages.levels import TASKS

from covey.config import OnPolicyAlgorithm, load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
DATA = ROOT / "docs" / "results.json"

Run = dict[str, Any]

HEAD = """# Results

What the jobs in `examples/` learn, how far that is from what could be learned, and what it takes. One row is one run:
`covey train` with that seed, then `covey evaluate RUN --episodes 400`, which plays the best member, without
exploration, on starts that it was never trained or selected on, the same for every run. A score is the mean over those
episodes and its standard error, so it says nothing about other seeds of training; rows of other seeds do.

Wall time is that of training, with acting, learning, evaluation and evolution in it. It belongs to the machine and to
what else that was doing; scores do not. Env steps count every `step()` of one environment, whatever the number of its
agents.

Runs before 2026-11-28 stepped mpe2's own environments, 8 to 16 copies of them, which the examples named then; now these
name the same tasks as arrays (`covey.envs.mpe`), which play the same episodes in less time.

Curves show the best member's fitness in every generation: a maximum over noisy evaluations of a few dozen episodes.
They show when something was learned; the tables show how good it is.

Written by `make results` from [results.json](results.json), which `.venv/bin/python benchmarks/learning.py` makes.
"""


def page(runs: list[Run]) -> str:
    """The whole page."""
    return HEAD + summary(runs) + "".join(chapter(task, of_task(task, runs)) for task in TASKS if of_task(task, runs))


def task_of(run: Run) -> tuple[str, bool]:
    """The run's key in TASKS."""
    environment = load_config(ROOT / run["config"]).environment
    name = environment.name.replace("covey.envs.mpe.", "mpe2.")  # as arrays a task is the same
    return name, bool(environment.config.get("continuous_actions", False))


def of_task(task: tuple[str, bool], runs: list[Run]) -> list[Run]:
    """The runs in one environment."""
    return [run for run in runs if task_of(run) == task]


def by_job(runs: list[Run]) -> dict[str, list[Run]]:
    """Runs of each job, in their order."""
    return {job: [run for run in runs if run["job"] == job] for job in dict.fromkeys(run["job"] for run in runs)}


def median(runs: list[Run]) -> float:
    """Median score over the seeds, of runs in which all agents are the member's own."""
    return float(statistics.median(run["evaluations"][0]["mean_return"] for run in runs))


def share_of_way(runs: list[Run]) -> float:
    """Where the median lies between random play, 0, and the best known, 1."""
    levels = TASKS[task_of(runs[0])].levels
    return (median(runs) - levels[0].score) / (levels[-1].score - levels[0].score)


def is_game(run: Run) -> bool:
    """Whether the run was judged by who won."""
    return "outcomes" in run["evaluations"][0]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    rule = ["---" if i == 0 else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def summary(runs: list[Run]) -> str:
    """One row for each job."""
    rows = []
    for job, mine in by_job(runs).items():
        levels = TASKS[task_of(mine[0])].levels
        row = [f"[{job}](../{mine[0]['config']})", str(len(mine)), f"{mine[0]['env_steps_per_member']:,.0f}"]
        row.append(f"{statistics.median(run['wall_s'] for run in mine):,.0f} s")
        if is_game(mine[0]):
            lost = [statistics.median(loss for loss, *_ in seats) for seats in zip(*map(shares, mine), strict=True)]
            row += ["lost: " + ", ".join(f"{share:.1%}" for share in lost), "", ""]
        else:
            row += [
                f"{median(mine):.1f}",
                f"{levels[0].score:.1f} to {levels[-1].score:.1f}",
                f"{share_of_way(mine):.0%}",
            ]
        rows.append(row)
    head = [
        "job",
        "seeds",
        "env steps per member",
        "wall time",
        "score",
        "from random to best known",
        "share of it",
    ]
    return "\nMedians over the seeds:\n\n" + table(head, rows)


def chapter(task: tuple[str, bool], runs: list[Run]) -> str:
    """An environment: its plot, its levels, its jobs."""
    about = TASKS[task]
    text = f"\n## {about.title}\n\n![Learning curves]({plot_path(task).name})\n\nScore: {about.unit}.\n\n"
    text += table(
        ["without learning", "score", "policy"], [[v.name, plus_minus(v.score, v.stderr), v.how] for v in about.levels]
    )
    text += f"\n{about.source}\n"
    return text + "".join(section(job, mine) for job, mine in by_job(runs).items())


def section(job: str, runs: list[Run]) -> str:
    """A job: its runs, what they show, how to repeat them."""
    common = ["seed", "env steps per member", "wall time", "env steps/s"]
    rows = [
        [f"{r['seed']}", f"{r['env_steps_per_member']:,.0f}", f"{r['wall_s']:,.0f} s", f"{r['env_steps_per_s']:,.0f}"]
        for r in runs
    ]
    if is_game(runs[0]):
        head = [*common, *(f"as {seat}: lost, won, drawn" for seat in seats(runs[0]))]
        rows = [[*row, *map(share_text, shares(run))] for row, run in zip(rows, runs, strict=True)]
    else:
        head = [*common, "score"]
        judged = [run["evaluations"][0] for run in runs]
        rows = [[*row, plus_minus(e["mean_return"], e["stderr"])] for row, e in zip(rows, judged, strict=True)]
    return f"\n### {job}\n\n{table(head, rows)}\n{finding(runs)}\n\n```sh\n{commands(job, runs)}```\n"


def plus_minus(value: float, error: float) -> str:
    """A figure with its standard error, if it has one."""
    return f"{value:.1f} ± {error:.1f}" if error else f"{value:.3f}"


def seats(run: Run) -> list[str]:
    """Who the member was in each evaluation against somebody else: the agent that nobody else played."""
    return [
        next(a for a in e["outcomes"] if not any(o.startswith(f"{a}=") for o in e["options"]))
        for e in run["evaluations"]
    ]


def shares(run: Run) -> list[tuple[float, float, float]]:
    """Lost, won and drawn, in each seat."""
    outcomes = [e["outcomes"][seat] for e, seat in zip(run["evaluations"], seats(run), strict=True)]
    return [(o["loss"], o["win"], o["draw"]) for o in outcomes]


def share_text(lost_won_drawn: tuple[float, float, float]) -> str:
    """Three shares of all games."""
    return ", ".join(f"{share:.1%}" for share in lost_won_drawn)


def finding(runs: list[Run]) -> str:
    """What the runs show, in a few sentences."""
    seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
    if is_game(runs[0]):
        worst = {seat: max(shares(run)[i][0] for run in runs) for i, seat in enumerate(seats(runs[0]))}
        lost = " and ".join(f"{share:.1%} as {seat}" for seat, share in worst.items())
        return f"Against random moves the worst of {seeds} loses {lost}. One policy plays both sides."
    scores = [run["evaluations"][0]["mean_return"] for run in runs]
    task = TASKS[task_of(runs[0])]
    text = f"Median of {seeds}: **{median(runs):.1f}** (from {min(scores):.1f} to {max(scores):.1f})."
    level = next((v for v in task.levels if v.name == "no communication"), None)
    if level is None:
        return f"{text} {share_of_way(runs):.0%} of the way from random play to the best known."
    # Two standard errors of one run's score: less is not told apart from the level.
    if median(runs) > level.score + 2 * max(run["evaluations"][0]["stderr"] for run in runs):
        more = f"More than the {level.score:.1f} that can be had without communication: the message is used."
        return f"{text} {more} {share_of_way(runs):.0%} of the way from random play to the best known."
    text += f" That is the level of a listener that takes no notice of what it is told ({level.score:.1f})."
    if isinstance(load_config(ROOT / runs[0]["config"]).algorithm, OnPolicyAlgorithm):
        text += """
Learners that are independent stop there: the speaker's own value network sees the colour of the goal alone, not where
the listener is or what it heard, so whatever the speaker says looks equally good until somebody listens. That is a
limit of the algorithm in this environment, not of the budget; joint critics (the other jobs here) do not have it."""
    return text


def commands(job: str, runs: list[Run]) -> str:
    """What makes the runs, all at once and one of them."""
    run = runs[0]
    text = f".venv/bin/python benchmarks/learning.py {job} --seeds {' '.join(str(r['seed']) for r in runs)}\n"
    overrides = "".join(f" --set {override}" for override in run.get("overrides", []))
    text += f"# one by one\n.venv/bin/covey train {run['config']} --set training.seed={run['seed']}{overrides}\n"
    for e in run["evaluations"]:
        text += " ".join([".venv/bin/covey evaluate RUN --episodes 400 --seed 1", *e["options"]]) + "\n"
    return text


def plot_path(task: tuple[str, bool]) -> Path:
    """Where an environment's plot is."""
    return PAGE.with_name(f"results_{task[0].rpartition('.')[2]}.png")


def draw(task: tuple[str, bool], runs: list[Run], path: Path) -> None:
    """The learning curves of the examples as they stand, of all seeds, among the levels."""
    about = TASKS[task]
    runs = [run for run in runs if not run.get("overrides")]
    plot = plots.axes(about.title, "env steps per member", "best member's fitness")
    plots.levels(plot, {level.name: level.score for level in about.levels})
    plots.lines(
        plot, {job: [[(x, y) for x, y, *_ in run["curve"]] for run in mine] for job, mine in by_job(runs).items()}
    )
    plot.set_xlim(left=0)
    plots.thousands(plot)
    plots.save(plot, path)


def main() -> None:
    """Write or compare."""
    runs = json.loads(DATA.read_text())
    fresh = page(runs)
    drawn = {task: of_task(task, runs) for task in TASKS if of_task(task, runs)}
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(fresh)
        for task, mine in drawn.items():
            draw(task, mine, plot_path(task))
    elif not PAGE.exists() or PAGE.read_text() != fresh or not all(plot_path(task).exists() for task in drawn):
        sys.exit("docs/results.md is stale; run `make results`")


if __name__ == "__main__":
    main()
