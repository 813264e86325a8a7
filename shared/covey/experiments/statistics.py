"""Statistics over runs, by Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", 2021.

Scores are given as one array for each task, with a number for each run. Intervals are percentiles of a stratified
bootstrap: runs are drawn anew, with replacement, within each task, and the statistic is computed again, many times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tasks = Sequence[Floats]
"""Scores of the runs, an array for each task."""

Statistic = Callable[[Floats], Floats]
"""From scores (..., runs) of all tasks together to values (...)."""

DRAWS = 10_000
"""Bootstrap samples: the ends of an interval then vary by about a fiftieth of its width from seed to seed."""

CONFIDENCE = 0.95

FEWEST_RUNS = 3
"""With fewer runs an interval is too narrow to be believed: a bootstrap cannot draw what was not seen."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with its interval.

    Attributes:
        value: Of the runs as they are.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def mean(scores: Floats) -> Floats:
    """Mean over all runs, (..., runs) to (...)."""
    return np.asarray(scores.mean(axis=-1))


def median(scores: Floats) -> Floats:
    """Median over all runs, (..., runs) to (...)."""
    return np.asarray(np.median(scores, axis=-1))


def iqm(scores: Floats) -> Floats:
    """Interquartile mean: the mean of the middle half of the runs, (..., runs) to (...).

    A quarter of them, rounded down, is left out at each end: of 10 runs 2 at each, of 3 none.
    """
    cut = scores.shape[-1] // 4
    return np.asarray(np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: Floats) -> Floats:
    """How far runs stay below 1 on average, where what exceeds 1 counts as 1; of normalised scores, lower is better."""
    return np.asarray(1.0 - np.minimum(scores, 1.0).mean(axis=-1))


def share_above(threshold: float) -> Statistic:
    """The statistic of a performance profile: the share of runs whose score is above the threshold."""
    return lambda scores: np.asarray((scores > threshold).mean(axis=-1))


def estimate(statistic: Statistic, tasks: Tasks, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """A statistic of all runs of all tasks, with its stratified bootstrap interval.

    Args:
        statistic: Such as `iqm`.
        tasks: An array of scores for each task; no array is empty. Scores of different tasks must be normalised.
        draws: Bootstrap samples.
        seed: Of the draws, so that a table can be made again.
    """
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([t[rng.integers(0, len(t), (draws, len(t)))] for t in tasks], axis=-1)
    low, high = _ends(statistic(drawn))
    return Estimate(float(statistic(np.concatenate(tasks))), low, high)


def interval_of_means(values: Floats, *, draws: int = 2000, seed: int = 0) -> tuple[Floats, Floats]:
    """The ends of the bootstrap interval of the mean over runs at each of n places.

    Args:
        values: (runs, n).
        draws: Bootstrap samples.
        seed: Of the draws.
    """
    drawn = _shares(np.random.default_rng(seed), draws, len(values)) @ values
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return low, high


def probability_of_improvement(ours: Tasks, theirs: Tasks, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """How probable it is that a run of ours scores higher than one of theirs, averaged over the tasks; a tie is half.

    Args:
        ours: An array of scores for each task.
        theirs: Scores of the others, in the same order of tasks.
        draws: Bootstrap samples, in which runs of both sides are drawn anew.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    values, drawn = [], []
    for x, y in zip(ours, theirs, strict=True):
        wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)  # (runs of ours, runs of theirs)
        values.append(wins.mean())
        # A sample is how often each run was drawn, as a share: it weighs the run's row or column.
        ours_drawn, theirs_drawn = _shares(rng, draws, len(x)), _shares(rng, draws, len(y))
        drawn.append(((ours_drawn @ wins) * theirs_drawn).sum(axis=-1))
    low, high = _ends(np.mean(drawn, axis=0))
    return Estimate(float(np.mean(values)), low, high)


def _shares(rng: np.random.Generator, draws: int, runs: int) -> Floats:
    """(draws, runs): the share of a bootstrap sample that each run has."""
    return rng.multinomial(runs, np.full(runs, 1.0 / runs), size=draws) / runs


def _ends(drawn: Floats) -> tuple[float, float]:
    """The ends of the interval in which CONFIDENCE of the bootstrap's values lie."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
