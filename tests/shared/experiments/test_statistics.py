"""Statistics over runs equal those of rliable.

The expected numbers were made by rliable 1.2.0 (with arch 7.2.0 and numpy 2.4.6) from the tables below: point estimates
by rliable.metrics, intervals by rliable.library.get_interval_estimates with 50,000 samples (5,000 for the probability
of improvement), task_bootstrap=False. A bootstrap's ends vary with its draws, so they are compared to within 0.01.
"""

import numpy as np
import pytest

from covey.experiments import statistics as st

A = np.array(
    [
        *([0.10, 0.62], [0.95, 0.70], [0.88, 0.35], [0.91, 0.81], [0.97, 0.77]),
        *([0.40, 0.66], [0.93, 1.05], [0.90, 0.58], [0.99, 0.73], [0.86, 0.69]),
    ]
)
"""Ten runs of two tasks, of which one exceeds 1."""

B = np.array(
    [
        *([0.30, 0.52], [0.75, 0.60], [0.68, 0.25], [0.91, 0.71], [0.57, 0.67]),
        *([0.45, 0.56], [0.83, 0.95], [0.60, 0.48], [0.79, 0.63], [0.66, 0.59]),
    ]
)


def tasks(table: st.Floats) -> list[st.Floats]:
    return list(table.T)


@pytest.mark.parametrize(
    ("table", "statistic", "value", "low", "high"),
    [
        (tasks(A), st.mean, 0.7425, 0.634, 0.835),
        (tasks(A), st.iqm, 0.791, 0.674, 0.868),
        (tasks(A), st.optimality_gap, 0.26, 0.1695, 0.368),
        (tasks(A), st.share_above(0.5), 0.85, 0.7, 1.0),
        (tasks(B), st.mean, 0.625, 0.55, 0.699),
        (tasks(B), st.iqm, 0.627, 0.559, 0.698),
        (tasks(B), st.optimality_gap, 0.375, 0.301, 0.45),
        (tasks(B), st.share_above(0.5), 0.8, 0.6, 0.95),
        (tasks(A[:, :1]), st.mean, 0.789, 0.596, 0.933),
        (tasks(A[:, :1]), st.iqm, 0.905, 0.64, 0.945),
        (tasks(A[:, :1]), st.optimality_gap, 0.211, 0.067, 0.404),
    ],
)
def test_estimates_are_those_of_rliable(
    table: list[st.Floats], statistic: st.Statistic, value: float, low: float, high: float
) -> None:
    found = st.estimate(statistic, table)
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_probability_of_improvement_is_that_of_rliable() -> None:
    found = st.probability_of_improvement(tasks(A), tasks(B))
    assert found.value == pytest.approx(0.7425)
    assert (found.low, found.high) == pytest.approx((0.5674, 0.9), abs=0.015)
    back = st.probability_of_improvement(tasks(B), tasks(A))
    assert back.value == pytest.approx(1 - 0.7425)


def test_ties_are_half_an_improvement() -> None:
    same = [np.array([1.0, 2.0, 3.0])]
    assert st.probability_of_improvement(same, same).value == 0.5
    ones = [np.ones(4)]
    assert st.probability_of_improvement(ones, ones) == st.Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([5.0], 5.0), ([1.0, 9.0], 5.0), ([0.0, 1.0, 8.0], 3.0), ([-99.0, 1.0, 3.0, 99.0], 2.0), (list(range(10)), 4.5)],
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(scores: list[float], expected: float) -> None:
    assert st.iqm(np.array(scores, float)) == expected


def test_median_is_over_runs() -> None:
    assert st.estimate(st.median, [np.array([1.0, 2.0, 30.0])]).value == 2.0


def test_runs_are_drawn_within_their_tasks() -> None:
    """With no spread within a task there is none in the interval, however far apart the tasks are."""
    found = st.estimate(st.mean, [np.zeros(5), np.ones(5)])
    assert found == st.Estimate(0.5, 0.5, 0.5)
    assert st.estimate(st.mean, [np.array([0.0, 0, 0, 0, 0, 1, 1, 1, 1, 1])]).high > 0.7


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for k in range(200):
        found = st.estimate(st.mean, [rng.normal(3.0, 1.0, 30)], draws=500, seed=k)
        held += found.low <= 3.0 <= found.high
    assert held / 200 == pytest.approx(0.95, abs=0.05)


def test_a_table_can_be_made_again() -> None:
    assert st.estimate(st.iqm, tasks(A)) == st.estimate(st.iqm, tasks(A))
