"""A report in a real browser: it shows what the commands print, on small and large screens, and asks for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.browser import Browser, browser
from tests.support.in_this_process import covey_here
from tests.support.processes import covey_json, until, write_config

PLACE_OF_THE_FIFTH_MEMBER = """
const chart = document.querySelector("#lineage .chart");
chart.scrollIntoView({behavior: "instant", block: "center"});
const trace = chart._fullData.find((t) => t.customdata), {xaxis, yaxis} = chart._fullLayout;
const box = chart.getBoundingClientRect(), i = 4;
return [
  box.x + xaxis._offset + xaxis.d2p(trace.x[i]), box.y + yaxis._offset + yaxis.d2p(trace.y[i]), trace.customdata[i],
];
"""
"""On the screen, where plotly has put it, and its id."""

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    training = {"max_steps": 1500, "evo_steps": 100, "pop_size": 8, "confirm_episodes": 20, "eval_loop": 2}
    job = write_config(folder / "job.yaml", training=training)
    return Path(covey_json("train", job, "--runs", folder, "--json")["run_dir"])


@pytest.fixture(scope="module")
def report(run: Path) -> Path:
    out = run.parent / "report.html"
    assert covey_here("report", run, "--out", out).returncode == 0
    return out


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def settled(window: Browser) -> None:
    """Wait until the charts are drawn."""
    until(lambda: window.run("return document.querySelectorAll('.main-svg').length") > 3, what="charts")


def test_it_shows_what_the_commands_print_and_asks_for_nothing(window: Browser, run: Path, report: Path) -> None:
    window.requests()
    window.open(report.as_uri())
    settled(window)
    assert window.errors() == []
    assert window.requests() == [report.as_uri()]
    members = covey_json("members", run, "--json")["members"]
    rows = window.rows("#population")
    assert [row[0].removeprefix("★ ") for row in rows] == [str(m["member_id"]) for m in members]
    assert [row[2] for row in rows] == [f"{m['fitness']:.2f} ± {m['fitness_stderr']:.2f}" for m in members]
    status = covey_json("status", run, "--json")
    assert window.text("[data-card=state] b") == status["state"] == "complete"
    assert window.run("return document.querySelector('img.film').naturalWidth") > 100


def test_a_member_that_is_clicked_is_shown_at_once(window: Browser, run: Path, report: Path) -> None:
    window.open(report.as_uri())
    settled(window)
    lineage = covey_json("lineage", run, "--json")["members"]
    assert len(lineage) > 30
    # The markers of the lineage, as plotly has placed them: a click where the fifth is.
    x, y, member_id = window.run(PLACE_OF_THE_FIFTH_MEMBER)
    began = time.monotonic()
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        event = {"type": kind, "x": x, "y": y, "button": "none" if kind == "mouseMoved" else "left", "clickCount": 1}
        window.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    until(lambda: window.text("#lineage .member h3") == f"member {member_id}", what="the member")
    print(f"click to member: {time.monotonic() - began:.3f} s")
    told = dict((row[0], row[1]) for row in window.rows("#lineage .member"))
    (member,) = [m for m in lineage if m["member_id"] == member_id]
    assert told["env steps"] == f"{member['env_steps']:,}"
    assert told["lr_actor"].startswith(f"{member['hyperparameters']['lr_actor']:.6g}"[:5])
    # By keyboard: the list beside it says the same.
    window.run(
        "const select = document.querySelector('select.members');"
        "select.focus(); select.value = '0'; select.dispatchEvent(new Event('change'))"
    )
    assert window.text("#lineage .member h3") == "member 0"
    assert window.errors() == []


@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1200, True)])
def test_it_is_readable_on_small_screens_and_in_the_dark(
    window: Browser, report: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    window.open(report.as_uri(), width, 800, dark=dark)
    settled(window)
    assert window.run("return document.documentElement.scrollWidth") <= width, "nothing runs off to the right"
    colour = window.run("return getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(20, 24, 31)") is dark
    window.driver.save_screenshot(str(tmp_path / f"{width}-{'dark' if dark else 'light'}.png"))
    assert window.errors() == []
