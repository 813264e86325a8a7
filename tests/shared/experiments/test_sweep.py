"""`covey sweep` refuses what it cannot train before anything starts; its directory, claims and settings."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT, started, until, write_config

from covey.cli import run
from covey.cli.run_names import find_run
from covey.errors import ConfigError, StorageError
from covey.experiments.claims import Claim
from covey.experiments.run_process import THREADS, child_environment
from covey.experiments.study import parse_ranges
from covey.experiments.sweep_directory import Plan, SweepDirectory
from covey.resources import usable_cores


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "algorithm.lr_aktor=1,2"], 2, "lr_aktor"),
        (["--set", "algorithm.lr_actor=0.1,-1"], 2, "algorithm.lr_actor"),
        (["--set", "algorithm.lr_actor=0.1..0.2"], 2, "--optuna"),
        (["--set", "nothing.here=1,2"], 2, "nothing"),
        (["--set", "network.latent_dimm=1,2"], 2, "latent_dimm"),
        (["--set", "environment.name=no_such_module:make,other:make"], 3, "no_such_module"),
        (["--seeds", "9-0"], 2, "--seeds"),
        (["--name", "a/b"], 2, "--name"),
        (["--trials", "3"], 2, "--optuna"),
        (["--optuna"], 2, "nothing to choose"),
        (["--optuna", "--set", "algorithm.lr_aktor=0.1..0.2"], 2, "lr_aktor"),
        (["--optuna", "--set", "algorithm.lr_actor=-1..0.2"], 2, "algorithm.lr_actor"),
        (["--optuna", "--set", "algorithm.lr_actor=0.2..0.1"], 2, "first end is lower"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_starts(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    pytest.importorskip("optuna") if "--optuna" in arguments else None
    assert run(["sweep", str(config), *arguments]) == code
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err
    assert not (config.parent / "runs").exists()


def test_a_missing_optuna_is_a_sentence(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(["sweep", str(config), "--optuna", "--set", "algorithm.lr_actor=0.1..0.2"]) == 2
    assert "pip install 'covey-marl[optuna]'" in capsys.readouterr().err


def test_a_directory_of_other_settings_is_refused_with_what_differs(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path / "job")
    plan = Plan("a.yaml", {"algorithm": {"lr": 0.1}, "training": {}}, {"algorithm.gamma": [0.9, 0.99]}, [0, 1])
    sweep.enter(plan)
    sweep.enter(Plan("b.yaml", plan.config, plan.varied, [1, 5]))
    assert sweep.read().seeds == [0, 1, 5], "seeds may be added"
    for other, words in [
        (Plan("a.yaml", {"algorithm": {"lr": 0.2}, "training": {}}, plan.varied, [0]), r"algorithm\.lr 0\.1 -> 0\.2"),
        (Plan("a.yaml", plan.config, {"algorithm.gamma": [0.9]}, [0]), r"algorithm\.gamma 0\.9,0\.99 -> 0\.9"),
        (Plan("a.yaml", plan.config, {}, [0]), r"algorithm\.gamma 0\.9,0\.99 -> not given"),
        (Plan("a.yaml", plan.config, plan.varied, [0], {"ranges": {}}), "ranges"),
    ]:
        with pytest.raises(ConfigError, match=words):
            sweep.enter(other)
    assert sweep.read().seeds == [0, 1, 5]


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "job" / "something").mkdir(parents=True)
    with pytest.raises(StorageError, match="holds other things"):
        SweepDirectory(tmp_path / "job").enter(Plan("a.yaml", {}, {}, [0]))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(StorageError, match="not what covey sweep writes"):
        SweepDirectory(tmp_path / "damaged").read()


def test_a_run_has_one_claim_until_its_last_process_has_ended(tmp_path: Path) -> None:
    claim = Claim.take(tmp_path / "run")
    assert claim is not None and Claim.take(tmp_path / "run") is None
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    with started(sleeper, environ=ENVIRONMENT, pass_fds=[claim.fd]) as child:
        claim.release()
        assert Claim.take(tmp_path / "run") is None, "the child that works on the run has it"
        child.kill()
        child.wait()
        again = until(lambda: Claim.take(tmp_path / "run"), what="the claim of a process that was killed")
    again.release()


@pytest.mark.parametrize(("given", "jobs"), [(None, 1), (None, 10_000), ("1", 1), ("", 1)])
def test_runs_at_the_same_time_share_the_cores(monkeypatch: pytest.MonkeyPatch, given: str | None, jobs: int) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    share = max(1, usable_cores() // jobs)
    assert child_environment(jobs)["OMP_NUM_THREADS"] == ("1" if given == "1" else str(share))
    assert child_environment(jobs)["OPENBLAS_NUM_THREADS"] == str(share)


def test_ranges_are_numbers_with_dots_between() -> None:
    assert parse_ranges(["a=1e-4..0.01", "b=8..64", "c=x,y"]) == (
        {"c": ["x", "y"]},
        {"a": (0.0001, 0.01), "b": (8, 64)},
    )
    with pytest.raises(ConfigError, match="leave one out"):
        parse_ranges(["a=1..2", "a=1,2"])


def test_run_means_a_run_in_a_sweep_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = SweepDirectory(Path("runs") / "job")
    sweep.enter(Plan("a.yaml", {}, {}, [0, 1]))
    for age, name in enumerate(["seed=1", "seed=0"]):
        (sweep.path / name).mkdir()
        (sweep.path / name / "config.yaml").write_text("{}")
        os.utime(sweep.path / name, (10**9 - age, 10**9 - age))
    for name in ("runs/job/seed=1", "job/seed=1", f"{tmp_path}/runs/job/seed=1"):
        assert find_run(name).resolve() == tmp_path / "runs" / "job" / "seed=1"
    assert find_run(None) == Path("runs/job/seed=1"), "the newest of all"
    assert "seed=1" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"is a sweep of 2 runs, expected one of them, such as runs/job/seed=0"):
        find_run("job")
    with pytest.raises(ConfigError, match="2 runs in runs/job begin like that"):
        find_run("job/se")
