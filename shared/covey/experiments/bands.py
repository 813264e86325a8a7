"""Curves of several runs as one: the mean of runs that differ in their seed alone, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.experiments.statistics import FEWEST_RUNS, interval_of_means
from covey.run.curves import Curve, read_curves
from covey.run.directory import RunDirectory
from covey.run.summary import RunSummary, differences

PLACES = 200
"""At how many env steps several runs are compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A curve of some runs; all arrays are (n,).

    Attributes:
        label: What tells these runs from others, such as "lr 0.001".
        runs: How many they are.
        env_steps: Of each member.
        mean: Mean over the runs.
        low: Lower end of the 95 % bootstrap interval of the mean, of fewer than three runs the lowest of them.
        high: The upper end, or the highest.
    """

    label: str
    runs: int
    env_steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bands(summaries: Sequence[RunSummary], metric: str) -> list[Band]:
    """Read a curve of many runs, and join those that differ in their seed alone.

    A band reaches from where all its runs have begun the curve to where the first of them ends it; between its points a
    curve is a straight line.

    Args:
        summaries: The runs.
        metric: Name of the curve.

    Raises:
        ConfigError: a run has no such curve; names one that is close.
        StorageError: a run's curves are damaged.
    """
    labels = _labels(summaries)
    groups: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    for summary in summaries:
        curve = read_curves(RunDirectory(summary.path))[metric]
        groups.setdefault(labels[summary.path], []).append(_by_member(curve, summary.members or 1))
    return [_band(label, curves) for label, curves in groups.items()]


def _by_member(curve: Curve, members: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A curve over the env steps of each member; of several values at one place the last."""
    steps = curve.env_steps / max(1, members)
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], curve.values[order]
    last = np.append(steps[1:] != steps[:-1], True)
    return steps[last], values[last]


def _band(label: str, curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Band:
    if len(curves) == 1:
        ((steps, values),) = curves
        return Band(label, 1, steps, values, values, values)
    first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    at = np.linspace(first, max(first, last), PLACES)
    values = np.stack([np.interp(at, *curve) for curve in curves])
    if len(curves) < FEWEST_RUNS:
        low, high = values.min(0), values.max(0)
    else:
        low, high = interval_of_means(values)
    return Band(label, len(curves), at, values.mean(0), low, high)


def _labels(summaries: Sequence[RunSummary]) -> dict[Path, str]:
    """What tells each run from others that differ in more than the seed."""
    kinds = {(s.algorithm, s.environment) for s in summaries}
    varied: Mapping[Path, Mapping[str, Any]] = differences(summaries)
    labels = {}
    for s in summaries:
        words = [f"{s.algorithm} in {s.environment}"] if len(kinds) > 1 else []
        words += [f"{key.rpartition('.')[2]} {value}" for key, value in varied[s.path].items()]
        labels[s.path] = ", ".join(words) or str(s.algorithm)
    return labels
