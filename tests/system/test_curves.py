"""The curves of a run hold its result, and are a few, however many members it has had."""

import csv
import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tests.support.processes import covey_json, write_config

GENERATIONS, MEMBERS = 6, 3


@pytest.fixture(params=["generational", "steady_state"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    job = write_config(
        tmp_path / "job.yaml",
        evolution={"mode": request.param},
        logging={"tensorboard": True},
        training={
            "max_steps": 200 * GENERATIONS,
            "evo_steps": 200,
            "pop_size": MEMBERS,
            "eval_loop": 2,
            "confirm_episodes": 20,
        },
    )
    return Path(covey_json("train", job, "--runs", tmp_path, "--json")["run_dir"])


def test_they_hold_the_result_and_are_named_by_places(run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    result = json.loads((run / "result.json").read_text())
    confirmed = [row for row in rows if row["name"] == "fitness/confirmed"]
    assert [float(row["value"]) for row in confirmed] == [result["best_fitness"]]
    assert confirmed[0]["member_id"] == str(result["best_member"])
    assert int(confirmed[0]["env_steps"]) == result["env_steps"] == 200 * GENERATIONS * MEMBERS

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert events.Scalars("fitness/confirmed")[-1].value == pytest.approx(result["best_fitness"])

    # Every evaluation is there, of members that lived for one generation too.
    lived = {str(m["member_id"]) for m in covey_json("lineage", run, "--json")["members"]}
    places = [row for row in rows if row["name"].endswith("/fitness")]
    assert len(places) == GENERATIONS * MEMBERS
    assert {row["member_id"] for row in places} == lived
    names = {row["name"] for row in rows}
    assert {n.partition("/")[0] for n in names} == {
        *("train", "fitness", "evolution", "hp", "size", "learn", "system"),
        *(f"place_{k}" for k in range(MEMBERS)),
    }
    steps = sum(1 for row in rows if row["name"] == "train/episodes")
    assert steps and sum(float(r["value"]) for r in rows if r["name"] == "train/episodes") > 100
