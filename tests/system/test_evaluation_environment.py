"""`environment.evaluation`: evaluations with other arguments of the environment's function than training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import covey, covey_json, write_config

from covey.config import load_config
from covey.errors import RefusedError
from covey.run.new_run import new_run
from covey.v1.actor_service_pb2 import DescribeRequest, JoinRequest
from covey_server.app import LearnerProcess

CYCLES = 7


def job(folder: Path, name: str = "mpe2.simple_speaker_listener_v4", **evaluation: Any) -> Path:
    environment = {"name": name, "evaluation": evaluation}
    return write_config(folder / "job.yaml", environment=environment, training={"pop_size": 2, "max_steps": 600})


@pytest.mark.parametrize("package", ["mpe2", "covey.envs.mpe"])
def test_a_run_and_what_follows_it_evaluate_with_them(package: str, tmp_path: Path) -> None:
    config = job(tmp_path, f"{package}.simple_speaker_listener_v4", max_cycles=CYCLES)
    result = covey_json("train", config, "--runs", tmp_path / "runs", "--json")
    assert result["state"] == "complete" and result["env_steps"] == 1200
    episodes = covey_json("status", result["run_dir"], "--json")["counters"]["evaluation_episodes"]
    assert episodes and result["eval_env_steps"] == CYCLES * episodes
    film = covey("render", result["run_dir"], "--out", tmp_path / "film.gif")
    assert film.stdout.startswith(f"{CYCLES} env steps: "), film.stderr
    assert covey_json("evaluate", result["run_dir"], "--episodes", 3, "--json")["episodes"] == 3


@pytest.mark.parametrize(
    ("evaluation", "code", "words"),
    [({"continuous_actions": False}, 4, "action space Discrete"), ({"max_cycle": 3}, 3, "'max_cycle'")],
)
def test_what_does_not_fit_is_refused_before_training(
    evaluation: dict[str, Any], code: int, words: str, tmp_path: Path
) -> None:
    config = job(tmp_path, **evaluation)
    done = covey("train", config, "--runs", tmp_path / "runs")
    assert done.returncode == code and words in done.stderr and "environment.evaluation" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    checked = covey("check-env", "--config", config, "--steps", 30)
    assert checked.returncode == code and words in checked.stdout + checked.stderr, checked.stdout


def test_check_env_says_what_evaluation_is_like(tmp_path: Path) -> None:
    checked = covey("check-env", "--config", job(tmp_path, max_cycles=CYCLES), "--steps", 70)
    assert checked.returncode == 0 and "10 episodes, of 7 to 7 steps" in checked.stdout, checked.stdout


@pytest.mark.parametrize("evaluation", [{}, {"max_cycles": CYCLES}])
def test_an_actor_that_does_not_know_of_them_is_refused_where_they_are_set(
    evaluation: dict[str, Any], tmp_path: Path
) -> None:
    config = load_config(job(tmp_path, **evaluation))
    process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    try:
        attendance, old = process.attendance, DescribeRequest(protocol_version=1)
        newer = DescribeRequest(protocol_version=2, oldest_protocol_version=1)
        if not evaluation:
            described = attendance.describe(old)
            assert described.protocol_version == 1 and not described.environment.HasField("evaluation_config_json")
            return
        described = attendance.describe(newer)
        assert described.protocol_version == 2
        assert described.environment.evaluation_config_json == '{"continuous_actions": true, "max_cycles": 7}'
        with pytest.raises(RefusedError, match=r"environment\.evaluation: the actor speaks protocol version 1"):
            attendance.describe(old)
        with pytest.raises(RefusedError, match=r"environment\.evaluation: the actor speaks protocol version 1"):
            attendance.join(JoinRequest(protocol_version=1, actor_id="old"))
        assert process.learner.totals.counters["versions_refused"] == 2
    finally:
        process.stop()
