"""`covey sweep` with real processes: stopped and gone on with by two at once, runs that fail, settings by Optuna."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tests.support.processes import covey, covey_json, processes, until, write_config

from covey.run.directory import RunDirectory

SMALL = {"max_steps": 120, "evo_steps": 60, "pop_size": 2, "confirm_episodes": 2}


def states(done_json: str) -> dict[str, str]:
    """How runs ended, by name."""
    (line,) = [line for line in done_json.splitlines() if line.startswith('{"sweep"')]
    return {Path(r["run"]).name: r["state"] for r in json.loads(line)["runs"]}


def steps(sweep: Path) -> dict[str, int]:
    """Env steps of runs that were stopped, by name."""
    results = {p.parent.name: json.loads(p.read_text()) for p in sorted(sweep.glob("*/result.json"))}
    assert {r["state"] for r in results.values()} == {"stopped"}
    return {name: r["env_steps"] for name, r in results.items()}


def trained(run: Path) -> int:
    """Env steps that a run at work has told of."""
    return int(json.loads((run / "status.json").read_text())["env_steps"])


def test_a_stopped_sweep_goes_on_and_is_shared_by_processes(tmp_path: Path) -> None:
    config = write_config(tmp_path / "job.yaml", training=SMALL | {"max_steps": 100_000_000})
    command = ["sweep", config, "--seeds", "0-2", "--runs", tmp_path / "runs", "--episodes", "4", "--json"]
    sweep = tmp_path / "runs" / "job"
    with processes() as start:
        # Two runs at a time until both have begun; Ctrl-C then ends them with checkpoints, and says how to go on.
        first = start(tmp_path / "first.log", *command, "--jobs", 2)
        until(
            lambda: len(list(sweep.glob("seed=*/checkpoints/*"))) >= 2 and len(list(sweep.glob("seed=*/elites/0"))) == 2
        )
        first.popen.send_signal(signal.SIGINT)
        assert first.wait() == 130, first.output()
        assert "covey sweep" in first.output() and f"--runs={tmp_path / 'runs'}" in first.output()
        assert states(first.output()) == {"seed=0": "stopped", "seed=1": "stopped", "seed=2": "waiting"}
        before = steps(sweep)
        assert list(before) == ["seed=0", "seed=1"] and all(before.values())

        # The same command goes on with both; a second signal would end them at once, a SIGTERM stops as Ctrl-C does.
        again = start(tmp_path / "again.log", *command, "--jobs", 2)
        until(lambda: all(not (sweep / name / "result.json").exists() for name in before), what="both go on")
        until(lambda: all(trained(sweep / name) > n for name, n in before.items()), what="both train on")
        again.terminate()
        assert again.wait() == 128 + signal.SIGTERM, again.output()
        assert all(n > before[name] for name, n in steps(sweep).items())

        # What the sweep trains is what it was made for.
        shorter = write_config(tmp_path / "job.yaml", training=SMALL)
        refused = covey(*command)
        assert refused.returncode == 2 and "training.max_steps 100000000 -> 120" in refused.stderr, refused.stderr
        assert shorter == config

    # Here two processes share a sweep from its beginning.
    command[5] = tmp_path / "shared"
    sweep = tmp_path / "shared" / "job"
    with processes() as start:
        both = [start(tmp_path / f"{name}.log", *command) for name in ("left", "right")]
        assert [process.wait() for process in both] == [0, 0], [p.output() for p in both]
    found = [states(process.output()) for process in both]
    for seed in range(3):
        run = RunDirectory(sweep / f"seed={seed}")
        assert json.loads(run.result.read_text())["state"] == "complete"
        assert json.loads(run.evaluations.read_text())["seed"] == seed, "each seed has episodes of its own"
        log = (run.path / "train.log").read_text()
        assert log.count("complete: best member") == 1 and "another learner" not in log
        assert {f[f"seed={seed}"] for f in found} <= {"complete", "elsewhere"}
    assert sum("seed=0: training" in p.output() for p in both) == 1, "one of them trained it"

    # All is done: the same command leaves runs as they are, and every command takes a run of the sweep.
    written = {p: p.stat().st_mtime_ns for p in sweep.rglob("*.json") if p.name != "sweep.json"}
    done = covey(*command)
    assert done.returncode == 0 and set(states(done.stdout).values()) == {"complete"}, done.stderr
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert covey_json("evaluate", sweep / "seed=2", "--episodes", 2, "--json")["episodes"] == 2
    table = covey("table", sweep, "--format", "md")
    assert table.returncode == 0 and "| job | 3 |" in table.stdout, table.stderr
    assert covey("table", sweep, "--at", 60).returncode == 0, "generations say after how many env steps they ended"


def test_a_run_that_fails_is_told_and_the_others_are_trained(tmp_path: Path) -> None:
    config = write_config(tmp_path / "job.yaml", training=SMALL)
    command = ["sweep", config, "--seeds", "0", "--runs", tmp_path / "runs", "--episodes", "2"]
    # The environment's function refuses the second value, which shows only when it is built.
    done = covey(*command, "--set", "environment.config.max_cycles=5,true_not_a_number", "--json")
    failed = "environment.config.max_cycles=true_not_a_number,seed=0"
    assert states(done.stdout) == {"environment.config.max_cycles=5,seed=0": "complete", failed: "failed"}, done.stderr
    assert done.returncode != 0 and f"run {tmp_path / 'runs' / 'job' / failed} failed with exit code" in done.stderr
    assert f"exit code {done.returncode}: " in done.stderr and "Traceback" not in done.stderr


def test_optuna_chooses_the_settings(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    config = write_config(tmp_path / "job.yaml", training=SMALL)
    arguments = ["--optuna", "--set", "algorithm.lr_actor=0.0001..0.01", "--set", "algorithm.batch_size=16,32"]
    command = ["sweep", config, "--seeds", "0", "--runs", tmp_path / "runs", "--episodes", "2", *arguments]
    done = covey(*command, "--trials", 2, "--jobs", 2, "--json")
    assert done.returncode == 0 and "best of 2 trials: algorithm.batch_size=" in done.stderr, done.stderr
    sweep = tmp_path / "runs" / "job"
    backend = optuna.storages.journal.JournalFileBackend(str(sweep / "optuna.log"))
    study = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE"]
    assert len(states(done.stdout)) == 2 and set(states(done.stdout).values()) == {"complete"}
    values = set()
    for run in sweep.glob("*seed=0"):
        settings = json.loads((run / "combination.json").read_text())["settings"]
        assert 0.0001 <= settings["algorithm.lr_actor"] <= 0.01 and settings["algorithm.batch_size"] in (16, 32)
        values.add(json.loads((run / "evaluations.json").read_text())["best"]["mean_return"])
    assert {t.value for t in study.trials} == values
    assert covey(*command, "--trials", 2).returncode == 0, "as many trials as were asked for are there"
    assert len(list(sweep.glob("*seed=0"))) == 2
