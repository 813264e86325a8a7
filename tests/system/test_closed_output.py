"""Whoever reads a command's output may go, stop reading, or never have been there: what the command does goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT, covey_json, free_port, newest_run, processes, until, write_config

COVEY = f"{sys.executable} -m covey"


def shell(command: str, timeout_s: float = 170.0) -> subprocess.CompletedProcess[str]:
    """Run a pipeline to its end; its exit code is that of its first command."""
    return subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def result_of(runs: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((newest_run(runs) / "result.json").read_text())
    return found


@pytest.mark.parametrize(
    "output",
    ["2>&1 | head -1", "2>&1 | true", "2>&- | cat", "2>&1 >&- | cat", ">&- 2>&- | cat"],
    ids=["reader-goes", "no-reader", "no-stderr", "no-stdout", "neither"],
)
def test_training(tmp_path: Path, output: str) -> None:
    config = write_config(tmp_path / "quick.yaml")
    done = shell(f"{COVEY} train {config} --runs {tmp_path / 'runs'} {output}")
    assert done.returncode == 0, done.stderr
    result = result_of(tmp_path / "runs")
    assert (result["state"], result["env_steps"]) == ("complete", 4800)


def test_a_learner_and_an_actor(tmp_path: Path) -> None:
    config = write_config(tmp_path / "quick.yaml")
    port = free_port()
    with processes() as start:
        start(tmp_path / "actor.log", "-c", f"{COVEY} actor --learner 127.0.0.1:{port} 2>&1 | head -1", program="bash")
        learner = f"{COVEY} learner {config} --runs {tmp_path / 'runs'} --bind 127.0.0.1:{port} 2>&1 | head -1"
        done = shell(learner)
    assert done.returncode == 0, done.stderr
    assert result_of(tmp_path / "runs")["state"] == "complete"


def test_watching(tmp_path: Path) -> None:
    config = write_config(tmp_path / "job.yaml", training={"max_steps": 10**6, "evo_steps": 10**6})
    port = free_port()
    with processes() as start:
        start(tmp_path / "learner.log", "learner", config, "--runs", tmp_path / "runs", "--bind", f"127.0.0.1:{port}")
        address = f"127.0.0.1:{port}"
        until(lambda: shell(f"{COVEY} status --learner {address} | cat").returncode == 0, what="the learner answers")
        for options in ("", "--json"):
            done = shell(f"{COVEY} watch --learner {address} {options} 2>&1 | head -1", timeout_s=60)
            assert done.stdout and "Traceback" not in done.stdout + done.stderr
        assert covey_json("status", "--learner", address, "--json")["state"] == "waiting for the first actor"


def test_a_reader_that_stops_reading(tmp_path: Path) -> None:
    """A pipe that is full blocks whoever writes to it: the run must not wait for that."""
    config = write_config(tmp_path / "quick.yaml")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    command = [sys.executable, "-m", "covey", "train", str(config), "--runs", str(tmp_path / "runs")]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=writing) as process:
        try:
            assert process.wait(170) == 0
        finally:
            process.kill()
            os.close(reading)
            os.close(writing)
    assert result_of(tmp_path / "runs")["state"] == "complete"
