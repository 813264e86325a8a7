"""Encoders from outside, over covey's operations and as a torch module: they train, go on, play and are exported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import ENVIRONMENT, ROOT, newest_run, until

SOURCE = ROOT / "examples" / "own_encoder"
MODULE = "own_encoder.residual:residual"
QUICK = [
    *("--set", "training.max_steps=1500", "--set", "training.evo_steps=500", "--set", "environment.num_envs=2"),
    *("--set", "training.confirm_episodes=4", "--set", "logging.tensorboard=false", "--set", "logging.interval_s=0.2"),
    *("--set", "mutation.probabilities.no_mut=0", "--set", "mutation.probabilities.arch_mut=1"),
]
FORMS = {
    "ops": ("job_ops.yaml", ["--set", "algorithm.batch_size=16"], "squashed"),
    "torch": ("job_torch.yaml", ["--set", "algorithm.learn_step=128"], "torch"),
    "critics": (
        "job_torch.yaml",
        # So few updates that the policies take one action alone for some hundred steps, at usual rates.
        ["--set", "algorithm.name=MADDPG", "--set", "algorithm.batch_size=16", "--set", "algorithm.lr_actor=1e-6"],
        "torch",
    ),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which Python finds the example as an installed package."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", target, SOURCE], check=True, timeout=120)
    return {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(target), str(ROOT)])}


def covey(environment: dict[str, str], *arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "covey", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module", params=list(FORMS))
def finished(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Any]:
    """A form's kind, and a run with it that was killed in its midst and went on to its end, with its result."""
    job, settings, kind = FORMS[request.param]
    runs = tmp_path_factory.mktemp("runs")
    command = [
        sys.executable,
        "-m",
        "covey",
        "train",
        str(SOURCE / job),
        "--runs",
        str(runs),
        "--json",
        *QUICK,
        *settings,
    ]
    with (runs.parent / "train.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: checkpoints(runs) >= 2 or process.poll() is not None, 400, what="a generation is over")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    run = newest_run(runs)
    return kind, run, json.loads(covey(environment, "train", "--resume", run, "--json").splitlines()[-1])


def checkpoints(runs: Path) -> int:
    """The number of the newest checkpoint of the newest run."""
    found = sorted(runs.glob("*/checkpoints/0*"))
    return int(found[-1].name) if found else 0


def test_it_trains_evolves_and_goes_on_after_it_was_killed(
    finished: tuple[str, Path, Any], environment: dict[str, str]
) -> None:
    kind, run, result = finished
    assert (result["state"], result["env_steps"], result["generations"]) == ("complete", 3000, 3)
    assert result["updates"] > 0
    members = json.loads(covey(environment, "members", run, "--json"))["members"]
    assert {kind} == {
        encoder["kind"] for m in members for n in m["architecture"].values() for encoder in n["encoders"].values()
    }


def test_it_plays_and_is_exported(finished: tuple[str, Path, Any], environment: dict[str, str], tmp_path: Path) -> None:
    kind, run, _ = finished
    assert json.loads(covey(environment, "evaluate", run, "--episodes", 4, "--json"))["episodes"] == 4
    covey(environment, "export", run, "--out", tmp_path / "policy")
    modules = f", modules=[{MODULE!r}]" if kind == "torch" else ""
    code = (
        "import sys, covey, numpy as np\n"
        f"policy = covey.load_policy({str(tmp_path / 'policy')!r}{modules})\n"
        "seen = {'speaker_0': np.ones(3, np.float32), 'listener_0': np.ones(11, np.float32)}\n"
        "first = policy.act(seen)\n"
        "rng = np.random.default_rng(0)\n"
        "drawn = [{a: rng.normal(0, 20, x.shape).astype(np.float32) for a, x in seen.items()} for _ in range(200)]\n"
        "others = [policy.act(x) for x in drawn]\n"
        "again = policy.act(seen)\n"
        "assert set(first) == {'speaker_0', 'listener_0'}, first\n"
        "assert all(np.array_equal(first[a], again[a]) for a in first), (first, again)\n"
        "assert any(not np.array_equal(s[a], first[a]) for s in others for a in seen)\n"
        f"assert ('torch' in sys.modules) == {kind == 'torch'}\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    if kind == "torch":
        code = f"import covey\ncovey.load_policy({str(tmp_path / 'policy')!r})"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert f"give covey.load_policy or Agent.load modules=['{MODULE}']" in done.stderr, done.stderr


@pytest.mark.parametrize("job", ["job_ops.yaml", "job_torch.yaml"])
def test_check_env_counts_it(environment: dict[str, str], job: str) -> None:
    found = json.loads(covey(environment, "check-env", "--config", SOURCE / job, "--steps", 50, "--json"))
    assert found["trainable"] and min(found["parameters"].values()) > 1000


def test_actors_elsewhere_load_torch_only_where_they_are_told(environment: dict[str, str], tmp_path: Path) -> None:
    """Without the flags an actor leaves with a sentence; with those that it names it works."""
    command = [
        sys.executable,
        "-m",
        "covey",
        "learner",
        str(SOURCE / "job_torch.yaml"),
        "--runs",
        str(tmp_path),
        *QUICK,
    ]
    with (tmp_path / "learner.log").open("w") as log:
        learner = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: list(tmp_path.glob("*/address.json")) or learner.poll() is not None, 60, what="it listens")
        address = json.loads(newest_run(tmp_path).joinpath("address.json").read_text())["address"]
        said = covey(environment, "actor", "--learner", address, code=2)
        assert f"--ops torch --allow-module {MODULE}" in said
        said = covey(environment, "actor", "--learner", address, "--ops", "torch", code=2)
        assert f"module '{MODULE}', which makes a network, is not among those allowed here (none)" in said
        covey(environment, "actor", "--learner", address, "--ops", "torch", "--allow-module", MODULE)
        assert learner.wait(60) == 0
    finally:
        learner.kill()
        learner.wait()
