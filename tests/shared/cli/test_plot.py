"""`covey plot` draws curves of runs into a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tests.support.in_this_process import covey_here
from tests.support.run_files import CONFIG, run_files, write_curves


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    paths = []
    for seed in range(3):
        path = run_files(tmp_path / f"seed={seed}", CONFIG | {"training": {"seed": seed, "max_steps": 1000}})
        write_curves(path, {"fitness/best": [(0, 0.0), (2000, 10.0 + seed)], "train/return": [(0, 1.0), (2000, 5.0)]})
        paths.append(path)
    return paths


def test_a_picture_has_every_curve_that_was_asked_for(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    done = covey_here("plot", *runs, "--metric", "fitness/best", "--metric", "train/return", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: fitness/best, train/return of 3 runs\n"
    with Image.open(out) as picture:
        assert picture.width == 1050 and picture.height > 1000
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None and (0x1B, 0x62, 0xA5) in {c for _, c in colours}, "the first curve's colour"


def test_what_cannot_be_drawn_is_said(runs: list[Path], tmp_path: Path) -> None:
    done = covey_here("plot", runs[0], "--metric", "fitness/bets", "--out", tmp_path / "x.png")
    assert done.returncode == 2 and "did you mean 'fitness/best'" in done.stderr
    done = covey_here("plot", runs[0], "--out", tmp_path / "x.jpeg")
    assert done.returncode == 2 and "expected a name that ends in .png, .svg, .pdf" in done.stderr
    done = covey_here("plot", runs[0], "--out", tmp_path / "none" / "x.png")
    assert done.returncode == 7 and "cannot be written" in done.stderr
