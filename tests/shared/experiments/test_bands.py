"""Curves of runs that differ in their seed alone become one, with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.run_files import CONFIG, run_files, write_curves

from covey.errors import ConfigError
from covey.experiments.bands import bands
from covey.experiments.statistics import interval_of_means
from covey.run.summary import RunSummary, summarise


def run(folder: Path, seed: int, lr: float, *points: tuple[int, float]) -> RunSummary:
    config: dict[str, Any] = CONFIG | {
        "training": {"seed": seed, "max_steps": 1000},
        "algorithm": {"name": "MATD3", "lr_actor": lr},
    }
    path = run_files(folder / f"lr={lr},seed={seed}", config)
    write_curves(path, {"fitness/best": points})
    return summarise(path)


def test_runs_of_one_setting_are_one_band_over_what_all_of_them_have(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, 0, 0.1, (0, 0.0), (2000, 20.0)),
        run(tmp_path, 1, 0.1, (200, 4.0), (1000, 12.0), (4000, 100.0)),
        run(tmp_path, 0, 0.2, (0, 1.0), (2000, 1.0)),
    ]
    several, single = bands(runs, "fitness/best")
    assert (several.label, several.runs, single.label, single.runs) == ("lr_actor 0.1", 2, "lr_actor 0.2", 1)
    # Two members: env steps of each are half of the population's.
    assert (several.env_steps[0], several.env_steps[-1]) == (100.0, 1000.0)
    # At 500 env steps the curves stand at 10 and 12; of two runs the band reaches from one to the other.
    at = float(np.interp(500, several.env_steps, several.mean))
    assert at == pytest.approx(11.0, abs=0.05)
    assert float(np.interp(500, several.env_steps, several.high - several.low)) == pytest.approx(2.0, abs=0.1)
    assert single.mean.tolist() == [1.0, 1.0]


def test_of_several_values_at_one_place_the_last_is_taken(tmp_path: Path) -> None:
    (band,) = bands([run(tmp_path, 0, 0.1, (0, 1.0), (1000, 2.0), (1000, 3.0), (2000, 4.0))], "fitness/best")
    assert band.env_steps.tolist() == [0.0, 500.0, 1000.0] and band.mean.tolist() == [1.0, 3.0, 4.0]


def test_a_curve_that_a_run_does_not_have_is_named_with_one_that_is_close(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"curve 'fitness/bst'.*did you mean 'fitness/best'"):
        bands([run(tmp_path, 0, 0.1, (0, 1.0))], "fitness/bst")


def test_intervals_of_means_hold_the_mean_and_shrink_with_runs() -> None:
    drawn = np.random.default_rng(0).normal(size=(40, 3))
    few, many = interval_of_means(drawn[:5]), interval_of_means(drawn)
    for runs, (low, high) in ((drawn[:5], few), (drawn, many)):
        assert (low < runs.mean(0)).all() and (runs.mean(0) < high).all()
    assert (many[1] - many[0] < few[1] - few[0]).all()
    # Of n normal draws the interval is about 3.9 standard errors wide.
    assert float((many[1] - many[0]).mean()) == pytest.approx(3.9 / 40**0.5, rel=0.2)
