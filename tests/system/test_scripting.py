"""Training and asking from Python: `covey.train`, `covey.Run`, `covey.runs`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.support.processes import covey_json, until, write_config

import covey
from covey.errors import ConfigError, EnvironmentLoadError


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = write_config(tmp_path_factory.mktemp("job") / "job.yaml")
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    return data


@pytest.fixture(scope="module")
def run(job: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> covey.Run:
    runs = tmp_path_factory.mktemp("runs")
    return covey.train(job, runs=runs, progress=False, **{"training.seed": 3, "name": "herd"})


def test_what_is_given_by_keyword_replaces_the_configuration(run: covey.Run) -> None:
    assert run.name.startswith("herd-")
    assert (run.config.training.seed, run.config.training.max_steps) == (3, 1200)
    assert run.result is not None and run.result["state"] == "complete"


def test_it_answers_what_the_commands_answer(run: covey.Run) -> None:
    assert run.status["env_steps"] == 4800
    assert run.members == covey_json("members", run.path, "--json")["members"]
    assert run.lineage == covey_json("lineage", run.path, "--json")["members"]
    assert run.evaluate(6) == covey_json("evaluate", run.path, "--episodes", 6, "--json")
    assert run.evaluate(2, play={"speaker_0": "random"})["play"] == {"speaker_0": "random"}


def test_its_curves_are_arrays_that_hold_the_result(run: covey.Run) -> None:
    curves, result = run.metrics(), run.result
    assert result is not None
    confirmed = curves["fitness/confirmed"]
    assert confirmed.values.tolist() == [result["best_fitness"]]
    assert confirmed.member_ids.tolist() == [result["best_member"]]
    best = curves["fitness/best"]
    assert best.env_steps.tolist() == [2400, 4800] and best.values.dtype == np.float64
    with pytest.raises(ConfigError, match=r"curve 'fitness/bset': the run has none .* did you mean 'fitness/best'"):
        curves["fitness/bset"]


def test_its_best_policy_acts(run: covey.Run, tmp_path: Path) -> None:
    best = run.best
    assert best.score is None or best.stderr is not None
    observations = {"speaker_0": np.zeros(3, np.float32), "listener_0": np.zeros(11, np.float32)}
    actions = best.policy().act(observations)
    exported = covey.load_policy(run.export(tmp_path / "policy")).act(observations)
    for agent, action in run.policy().act(observations).items():
        np.testing.assert_array_equal(action, actions[agent])
        np.testing.assert_array_equal(action, exported[agent])


def test_it_says_what_it_is(run: covey.Run) -> None:
    assert repr(run).startswith(
        f"Run({str(run.path)!r}: state complete, trains MATD3 in mpe2.simple_speaker_listener_v4"
    )
    assert "<td>complete</td>" in run._repr_html_()
    assert "speaker_0: Box(float32, (3,)" in repr(run.policy())
    assert [each.path for each in covey.runs(run.path.parent)] == [run.path]
    assert {"train", "Run", "runs", "load_policy"} <= set(dir(covey))


def test_a_wrong_setting_is_refused_before_anything_is_made(job: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.lr_actr: unknown key"):
        covey.train(job, runs=tmp_path, progress=False, **{"algorithm.lr_actr": 0.1})
    assert list(tmp_path.iterdir()) == []


def test_what_ends_a_run_before_it_has_begun_is_its_error_and_leaves_nothing(
    job: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentLoadError, match="no_such_module"):
        covey.train(job, runs=tmp_path, progress=False, **{"environment.name": "no_such_module.env"})
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import covey, sys
try:
    covey.train(sys.argv[1], runs=sys.argv[2], **{"training.max_steps": 1_000_000, "training.evo_steps": 1000})
except KeyboardInterrupt:
    print("interrupted")
"""


def test_interrupted_it_has_a_checkpoint_from_which_it_goes_on(job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "long.yaml"
    file.write_text(yaml.safe_dump(job | {"name": "long"}))
    runs = tmp_path / "runs"
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(file), str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until(lambda: list(runs.glob("*/checkpoints/0*")), what="a checkpoint")
        time.sleep(0.5)
        script.send_signal(signal.SIGINT)
        out, error = script.communicate(timeout=60)
    finally:
        script.kill()
    assert out == "interrupted\n", error
    assert "long-" in error and "step/s" in error, "the progress bar"
    (path,) = runs.iterdir()
    stopped = json.loads((path / "result.json").read_text())
    assert stopped["state"] == "stopped"
    steps = (stopped["env_steps"] // 4000 + 2) * 1000
    run = covey.resume(path, progress=False, **{"training.max_steps": steps})
    assert (run.status["state"], run.status["env_steps"]) == ("complete", 4 * steps)
