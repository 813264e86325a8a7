"""Environments that go wrong, through a whole run: it goes on with every member's steps, or ends and says why."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import covey, covey_json, until, write_config
from tests.support.running_learners import steps_of


def config(path: Path, how: dict[str, Any], max_steps: int = 800, **actors: Any) -> Path:
    return write_config(
        path / "hostile.yaml",
        algorithm={"name": "IPPO"},
        environment={"name": "tests.support.hostile_environment:hostile", "config": how, "num_envs": 2},
        training={"max_steps": max_steps, "evo_steps": max_steps // 2, "pop_size": 2, "confirm_episodes": 2},
        actors=actors,
    )


def assert_whole(result: dict[str, Any], max_steps: int = 800) -> dict[str, Any]:
    """Every member has its steps, nothing was refused; returns the status."""
    assert result["state"] == "complete" and result["env_steps"] == 2 * max_steps
    told = covey_json("status", result["run_dir"], "--json")
    assert not told["counters"].get("refused") and not told["counters"].get("actors_quarantined")
    return told


@pytest.mark.parametrize("how", ["nan", "reward"])
def test_numbers_that_are_none_cost_their_episodes_only(how: str, tmp_path: Path) -> None:
    file = config(tmp_path, {"how": how, "at": 7, "length": 20})
    told = assert_whole(covey_json("train", file, "--runs", tmp_path / "runs", "--json"))
    assert told["counters"]["environment_fault"] > 50
    (first, *_) = [e for e in told["events"] if "expected a finite number" in e]
    assert "tests.support.hostile_environment:hostile of actor local-0" in first and "is nan" in first
    assert len(told["events"]) < 20, "a flood of faults is counted, not told one by one"


def test_one_that_only_raises_ends_the_run_in_a_sentence(tmp_path: Path) -> None:
    done = covey("train", config(tmp_path, {"how": "raise", "at": 1}), "--runs", tmp_path / "runs")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert (
        "'tests.support.hostile_environment:hostile': no good step in 3 orders" in done.stderr
        and "out of order" in done.stderr
    )


def test_one_that_hangs_costs_its_actor_and_another_goes_on(tmp_path: Path) -> None:
    armed = tmp_path / "armed"
    file = config(tmp_path, {"how": "hang", "at": 5, "length": 20, "armed": str(armed)}, 3_000, step_timeout_s=1.5)

    def arm() -> None:
        (told,) = until(lambda: list((tmp_path / "runs").glob("*/address.json")), what="it serves")
        address = json.loads(told.read_text())["address"]
        until(lambda: steps_of(address), what="an actor is at work")
        armed.touch()

    arming = threading.Thread(target=arm)
    arming.start()
    result = covey_json("train", file, "--runs", tmp_path / "runs", "--json")
    arming.join()
    assert not armed.exists(), "it did hang"
    told = assert_whole(result, 3_000)
    (event,) = [e for e in told["events"] if "has not returned from a step or reset" in e]
    assert (
        event.startswith("actor local-0 left (environment 'tests.support.hostile_environment:hostile'")
        and "steps wait for" in event
    )
