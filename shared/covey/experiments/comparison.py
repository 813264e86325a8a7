"""Compares the settings of sweeps: statistics of each over its runs, of each pair, and over env steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from covey.experiments.scores import Score
from covey.experiments.statistics import (
    Estimate,
    Floats,
    estimate,
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    share_above,
)

MOST_PAIRED = 6
"""With more settings than these, each is compared with the best alone instead of with every other."""

THRESHOLDS = (0.5, 0.75, 0.9, 0.95, 1.0)
"""Normalised scores at which a performance profile is given."""

MOST_POINTS = 12
"""Most env steps at which a sample-efficiency curve is given."""

ALL = "all tasks"


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seeds alone, or in their tasks too where several are taken together.

    Attributes:
        label: Their settings.
        runs: What they scored.
        statistics: By name: mean, median and IQM of the scores and, where levels are known, of the normalised scores,
            the latter's optimality gap, and their shares above THRESHOLDS.
        curve: The IQM of scores by env steps of each member, at those that all runs had reached.
    """

    label: str
    runs: list[Score]
    statistics: dict[str, Estimate]
    curve: dict[float, Estimate]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The settings of one task, or of all tasks together by normalised scores.

    Attributes:
        title: The task.
        groups: Settings, the one with the highest IQM first.
        better: For pairs of labels the probability that a run of the first scores higher than one of the second.
    """

    title: str
    groups: list[Group]
    better: dict[tuple[str, str], Estimate]


def at_steps(scores: Sequence[Score], env_steps: float) -> tuple[list[Score], list[str]]:
    """Scores as they were after so many env steps of each member, and a sentence for each run that had none then."""
    found, missing = [], []
    for score in scores:
        value = score.at(env_steps)
        if value is None:
            missing.append(f"run {score.run} keeps no generation that had ended after {env_steps:,.0f} env steps")
        else:
            curve = tuple(point for point in score.curve if point[0] <= env_steps)
            found.append(replace(score, score=value, env_steps=curve[-1][0], curve=curve))
    return found, missing


def compare(scores: Sequence[Score]) -> list[Comparison]:
    """Compare the settings in each task and, where there are several whose levels are all known, over all tasks."""
    tasks = list(dict.fromkeys(score.environment for score in scores))
    found = [_compared(task, [score for score in scores if score.environment == task]) for task in tasks]
    labels = [{g.label for g in comparison.groups} for comparison in found]
    if len(tasks) > 1 and all(score.task is not None for score in scores) and all(x == labels[0] for x in labels):
        found.append(_compared(ALL, scores, together=True))
    return found


def _compared(title: str, scores: Sequence[Score], *, together: bool = False) -> Comparison:
    """Compare the settings of some scores; `together` takes several tasks as one, by their normalised scores."""
    groups = [
        _group(label, [s for s in scores if s.label == label], together)
        for label in dict.fromkeys(s.label for s in scores)
    ]
    key = "normalised IQM" if together else "IQM"
    groups.sort(key=lambda g: g.statistics[key].value, reverse=True)
    pairs = list(itertools.combinations(groups, 2))
    if len(groups) > MOST_PAIRED:
        pairs = [(groups[0], other) for other in groups[1:]]
    better = {
        (a.label, b.label): probability_of_improvement(_tasks(a.runs, together), _tasks(b.runs, together))
        for a, b in pairs
    }
    return Comparison(title, groups, better)


def _group(label: str, runs: list[Score], together: bool) -> Group:
    """The statistics of runs."""
    kinds = {"mean": mean, "median": median, "IQM": iqm}
    statistics: dict[str, Estimate] = {}
    if not together:
        raw = _tasks(runs, normalised=False)
        statistics |= {name: estimate(kind, raw) for name, kind in kinds.items()}
    if all(run.task is not None for run in runs):
        normalised = _tasks(runs, normalised=True)
        statistics |= {f"normalised {name}": estimate(kind, normalised) for name, kind in kinds.items()}
        statistics["optimality gap"] = estimate(optimality_gap, normalised)
        statistics |= {f"share above {t:g}": estimate(share_above(t), normalised) for t in THRESHOLDS}
    curve = {} if together else {steps: _point(runs, steps) for steps in _points(runs)}
    return Group(label, runs, statistics, curve)


def _tasks(runs: Sequence[Score], normalised: bool) -> list[Floats]:
    """The scores of runs, an array for each task."""
    values: dict[str, list[float]] = {}
    for run in runs:
        score = run.task.normalised(run.score) if normalised and run.task is not None else run.score
        values.setdefault(run.environment, []).append(score)
    return [np.array(values[task]) for task in sorted(values)]


def _points(runs: Sequence[Score]) -> list[float]:
    """Env steps at which the curve of runs is given: of those where any has a point, after the first of every run."""
    if not all(run.curve for run in runs):
        return []
    first, last = max(run.curve[0][0] for run in runs), min(run.curve[-1][0] for run in runs)
    steps = sorted({s for run in runs for s, _ in run.curve if first <= s <= last})
    if len(steps) <= MOST_POINTS:
        return steps
    return [steps[round(i)] for i in np.linspace(0, len(steps) - 1, MOST_POINTS)]


def _point(runs: Sequence[Score], env_steps: float) -> Estimate:
    """The IQM of runs after so many env steps of each member."""
    values = [run.at(env_steps) for run in runs]
    return estimate(iqm, [np.array([v for v in values if v is not None])])
