"""`covey report`: one file that shows runs, without a network and without trusting their texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.in_this_process import covey_here
from tests.support.processes import covey_json, write_config
from tests.support.run_files import CONFIG, run_files, write_curves


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    job = write_config(folder / "job.yaml", training={"max_steps": 1200, "evo_steps": 300, "confirm_episodes": 20})
    return Path(covey_json("train", job, "--runs", folder, "--json")["run_dir"])


def content_of(page: Path) -> dict[str, Any]:
    """The data in a report."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


def test_it_holds_what_the_commands_print(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = covey_here("report", run, "--out", out)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{out}: 1 run, \d\.\d MB\n", done.stdout)
    assert out.stat().st_size < 6_000_000
    (shown,) = content_of(out)["runs"]
    assert shown["missing"] == []
    assert shown["members"] == covey_json("members", run, "--json")["members"]
    assert shown["lineage"] == covey_json("lineage", run, "--json")["members"]
    result = json.loads((run / "result.json").read_text())
    assert shown["curves"]["fitness/confirmed"]["y"] == [float(f"{result['best_fitness']:.6g}")]
    assert shown["picture"].startswith("data:image/gif;base64,")
    assert shown["levels"][0]["name"] == "random"


def test_runs_are_compared_and_different_tasks_are_told(run: Path, tmp_path: Path) -> None:
    other = run_files(tmp_path / "other")
    write_curves(other, {"fitness/best": [(0, -9.0), (2000, -4.0)]})
    out = tmp_path / "two.html"
    done = covey_here("report", run, other, "--out", out, "--no-picture")
    assert done.returncode == 0 and "these runs are of 2 different tasks" in done.stderr
    data = content_of(out)
    assert [each["name"] for each in data["runs"]] == [run.name, "other"]
    assert "training.seed" in data["differing"] and "algorithm.name" not in data["differing"]


def test_a_damaged_run_is_shown_as_far_as_it_can_be_read(run: Path, tmp_path: Path) -> None:
    damaged = run_files(tmp_path / "damaged")
    (damaged / "metrics.csv").write_text("wall_s,env_steps,name,value\n1.0,many,fitness/best,2\n")
    done = covey_here("report", damaged, "--out", tmp_path / "x.html", "--no-picture")
    assert done.returncode == 0 and "damaged: not shown: curves:" in done.stderr
    (shown,) = content_of(tmp_path / "x.html")["runs"]
    assert shown["config"]["algorithm.name"] == "MATD3" and len(shown["missing"]) >= 2


def test_texts_of_a_run_cannot_become_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><!--"
    run = run_files(tmp_path / "run", CONFIG | {"name": evil})
    write_curves(run, {f"fitness/best/{evil}": [(0, 1.0)]})
    assert covey_here("report", run, "--out", tmp_path / "x.html", "--no-picture").returncode == 0
    text = (tmp_path / "x.html").read_text()
    assert evil not in text and text.count("<script") == text.count("</script>")
    (shown,) = content_of(tmp_path / "x.html")["runs"]
    assert shown["config"]["name"] == evil and f"fitness/best/{evil}" in shown["curves"]


def test_the_page_asks_nobody_for_anything() -> None:
    from covey.page.report import part

    for name in ("page.html", "page.css", "page.js", "views.js"):
        assert not re.search(r"https?:|//[a-z]|@import|url\(|innerHTML|insertAdjacentHTML|eval\(", part(name)), name


def test_what_cannot_be_written_is_said(run: Path, tmp_path: Path) -> None:
    done = covey_here("report", run, "--out", tmp_path / "report.pdf")
    assert done.returncode == 2 and "expected a name that ends in .html" in done.stderr
    done = covey_here("report", run, "--no-picture", "--out", tmp_path / "none" / "report.html")
    assert done.returncode == 7 and "cannot be written" in done.stderr
