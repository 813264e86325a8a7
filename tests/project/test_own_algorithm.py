"""An algorithm from outside, with an experience class of its own: it trains, goes on, plays and is exported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import ENVIRONMENT, ROOT, newest_run, until

SOURCE = ROOT / "examples" / "own_algorithm"
QUICK = [
    *("--set", "training.max_steps=1500", "--set", "training.evo_steps=500", "--set", "environment.num_envs=2"),
    *("--set", "training.confirm_episodes=4", "--set", "algorithm.batch_size=16", "--set", "logging.tensorboard=false"),
    *("--set", "logging.interval_s=0.2"),
    # So that an update for every 5 env steps stays one for every 5: who mutates to which `learn_step` is chance.
    *("--set", "mutation.rl_hp_selection={lr: {min: 0.0001, max: 0.01}}"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which Python finds the example as an installed package."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", target, SOURCE], check=True, timeout=120)
    return {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}


def covey(environment: dict[str, str], *arguments: object) -> str:
    command = [sys.executable, "-m", "covey", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def finished(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A run that was stopped in its midst and went on to its end; its directory and its result."""
    runs = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "covey", "train", str(SOURCE / "job.yaml"), "--runs", str(runs), "--json", *QUICK]
    with (runs.parent / "train.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: checkpoints(runs) >= 2, 120, what="a generation is over")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    run = newest_run(runs)
    yield run, json.loads(covey(environment, "train", "--resume", run, "--json").splitlines()[-1])


def checkpoints(runs: Path) -> int:
    """The number of the newest checkpoint of the newest run."""
    found = sorted(runs.glob("*/checkpoints/0*"))
    return int(found[-1].name) if found else 0


def test_it_trains_and_goes_on_after_it_was_killed(finished: tuple[Path, Any]) -> None:
    _, result = finished
    assert (result["state"], result["env_steps"], result["generations"]) == ("complete", 3000, 3)
    assert 400 < result["updates"] <= 3000 / 5


def test_its_members_are_told_as_all_are(finished: tuple[Path, Any], environment: dict[str, str]) -> None:
    run, _ = finished
    members = json.loads(covey(environment, "members", run, "--json"))["members"]
    assert [sorted(m["hyperparameters"]) for m in members] == [["batch_size", "gamma", "learn_step", "lr"]] * 2
    assert "place_1/q_loss" in (run / "metrics.csv").read_text()


def test_it_plays_and_is_exported(finished: tuple[Path, Any], environment: dict[str, str], tmp_path: Path) -> None:
    run, _ = finished
    assert json.loads(covey(environment, "evaluate", run, "--episodes", 4, "--json"))["episodes"] == 4
    covey(environment, "export", run, "--out", tmp_path / "policy")
    code = (
        "import sys, covey, numpy as np\n"
        f"policy = covey.load_policy({str(tmp_path / 'policy')!r})\n"
        "actions = policy.act({'speaker_0': np.zeros(3, np.float32), 'listener_0': np.zeros(11, np.float32)})\n"
        "assert set(actions) == {'speaker_0', 'listener_0'}, actions\n"
        "assert 'torch' not in sys.modules and 'own_algorithm.independent_q' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_its_keys_are_in_the_schema_and_in_errors(environment: dict[str, str]) -> None:
    assert "## `algorithm` of IQL" in covey(environment, "schema", "--format", "markdown")
    command = [sys.executable, "-m", "covey", "train", str(SOURCE / "job.yaml"), "--set", "algorithm.epsilom=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "algorithm.epsilom: unknown key; did you mean 'epsilon'?" in done.stderr
