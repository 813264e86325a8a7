"""Evolution in steady state by real processes: killed in the middle and resumed, every place has exactly its steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.support.processes import covey_json, free_port, newest_run, processes, until, write_config
from tests.support.running_learners import assert_exact_steps, status, steps_of

MAX_STEPS = 8000
EVO_STEPS = 500


@pytest.mark.parametrize(("algorithm", "kills"), [("MATD3", (3000, 7000)), ("IPPO", (5000,))])
def test_a_learner_killed_and_resumed_in_steady_state_loses_no_step_and_no_turn(
    tmp_path: Path, algorithm: str, kills: tuple[int, ...]
) -> None:
    config = write_config(
        tmp_path / "steady.yaml",
        algorithm={"name": algorithm},
        training={"max_steps": MAX_STEPS, "evo_steps": EVO_STEPS},
        evolution={"mode": "steady_state"},
        checkpoint={"every_s": 1.0, "journal_sync_s": 0.1},
    )
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        log = tmp_path / "learner.log"
        learner = start(log, "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        start(tmp_path / "a1.log", "actor", "--learner", address)
        for kill_after in kills:
            until(lambda: steps_of(address) > kill_after, what=f"{kill_after} steps are in")  # noqa: B023
            learner.kill()
            run = newest_run(tmp_path / "runs")
            assert not (run / "result.json").exists(), "killed in the middle"
            learner = start(log, "learner", "--resume", run, "--set", f"learner.bind={address!r}")
        assert learner.wait() == 0, learner.output()
    run = newest_run(tmp_path / "runs")
    assert_exact_steps(run, MAX_STEPS)
    lineage = covey_json("lineage", run, "--json")["members"]
    dead = [m for m in lineage if m["died_generation"] is not None]
    assert all(m["env_steps"] == EVO_STEPS * m["died_generation"] and m["fitness"] is not None for m in dead)
    born = Counter(m["generation"] for m in lineage if m["parent_id"] is not None)
    assert born == Counter(m["died_generation"] for m in dead), "every place has somebody in every generation"
    assert covey_json("status", run, "--json")["generation"] == MAX_STEPS // EVO_STEPS - 1
