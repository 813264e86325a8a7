"""A disk that is full, and has room again: nothing is lost, the user is told, nobody has to do anything.

The disk is a limit on the size of the learner's files, which the system answers as it does a full disk.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

from tests.support.processes import Process, covey, covey_json, free_port, newest_run, processes, until, write_config
from tests.support.running_learners import MAX_STEPS, assert_exact_steps, status, steps_of

from covey.run.directory import RunDirectory


def limit_files(process: Process, most_bytes: int) -> None:
    _, hard = resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (most_bytes, hard))


def counters(address: str) -> dict[str, Any]:
    answered = status(address)
    return dict(answered["counters"]) if answered else {}


def test_a_learner_waits_for_room_and_goes_on_by_itself(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "full.yaml",
        training={"max_steps": MAX_STEPS, "evo_steps": MAX_STEPS // 2},
        checkpoint={"every_s": 0.5, "journal_sync_s": 0.1},
        logging={"interval_s": 0.2, "tensorboard": True},
    )
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        lost = start(tmp_path / "a1.log", "actor", "--learner", address, "--name", "a1")
        until(lambda: steps_of(address) > 1000, what="some steps are in")
        limit_files(learner, 4096)
        until(lambda: counters(address).get("disk_full"), what="it is noticed")
        until(lambda: counters(address).get("checkpoints_failed"), what="no checkpoint is written either")
        until(lambda: counters(address).get("files_not_written"), what="nor curves")
        stands_at = steps_of(address)
        # Somebody leaves meanwhile, orders and all, and another comes: that is written down when there is room.
        lost.kill()
        start(tmp_path / "a2.log", "actor", "--learner", address, "--name", "a2")
        until(lambda: counters(address).get("actors_lost"), what="the actor is given up")
        time.sleep(1.0)
        told = covey_json("status", "--learner", address, "--json")
        assert told["env_steps"] == stands_at and told["state"] == "training"
        (event,) = [e for e in told["events"] if "orders and fragments wait" in e]
        assert "journal cannot be written (File too large); make room on that disk" in event
        failed = covey("checkpoint", "--learner", address)
        assert failed.returncode == 7 and "disk cannot be used" in failed.stderr and "Traceback" not in failed.stderr
        limit_files(learner, resource.RLIM_INFINITY)
        assert learner.wait() == 0, learner.output()
    run = newest_run(tmp_path / "runs")
    assert_exact_steps(run)
    assert RunDirectory(run).elite_generations() == [0, 1]
    rows = (run / "metrics.csv").read_text().splitlines()
    assert all(len(row.split(",")) == 5 for row in rows), "gaps, but no halves"
    assert any("counter/disk_full,1" in row for row in rows)
