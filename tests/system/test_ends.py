"""What a run leaves behind that has ended, and what `--resume` makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.support.processes import covey, covey_json, free_port, newest_run, processes, until, write_config

from covey.config import load_config
from covey.run.new_run import new_run
from covey_server.app import LearnerProcess

STEPS = 120


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run."""
    folder = tmp_path_factory.mktemp("complete")
    training = {"max_steps": STEPS, "evo_steps": STEPS // 2, "pop_size": 2, "confirm_episodes": 2}
    config = write_config(folder / "job.yaml", training=training)
    done = covey("train", config, "--runs", folder / "runs")
    assert done.returncode == 0, done.stderr
    run = newest_run(folder / "runs")
    for command in ("evaluate", "render", "export"):
        assert f"covey {command} {run}" in done.stderr, "it says what comes next"
    return run


@pytest.fixture
def run(complete: Path, tmp_path: Path) -> Path:
    """A copy of the complete run, to be changed."""
    shutil.copytree(complete, tmp_path / complete.name)
    return tmp_path / complete.name


def test_a_complete_run_is_told_to_be_complete_and_stays_as_it_is(run: Path) -> None:
    files = ("result.json", "config.yaml", "members.json")
    before = [(run / name).read_bytes() for name in files]
    for more in ([], ["--set", "logging.csv=false"]):
        done = covey("train", "--resume", run, "--json", *more)
        assert done.returncode == 0 and "is complete after 240 env steps" in done.stderr
        assert json.loads(done.stdout)["state"] == "complete"
    assert [(run / name).read_bytes() for name in files] == before


@pytest.mark.parametrize(
    ("override", "was"),
    [
        ("training.pop_size=3", "2"),
        ("training.seed=9", "0"),
        ("algorithm.name=MADDPG", "MATD3"),
        ("environment.name=mpe2.simple_v3", "mpe2."),
        ("network.latent_dim=24", "network: {"),
        ("environment.config.max_cycles=7", "max_cycles"),
    ],
)
def test_what_cannot_change_is_refused_before_anything_is_touched(complete: Path, override: str, was: str) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in complete.rglob("*"))
    done = covey("train", "--resume", complete, "--json", "--set", override)
    assert done.returncode == 2 and "cannot change as a run is resumed" in done.stderr and was in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted((p, p.stat().st_mtime_ns) for p in complete.rglob("*")) == before


def test_what_may_change_counts_reaches_members_and_is_kept(run: Path) -> None:
    wanted = ["training.max_steps=180", "algorithm.lr_actor=0.0002", "algorithm.gamma=0.9", "logging.interval_s=1.5"]
    result = covey_json("train", "--resume", run, "--json", *(x for text in wanted for x in ("--set", text)))
    assert (result["state"], result["env_steps"]) == ("complete", 360)
    now, before = (yaml.safe_load((run / name).read_text()) for name in ("config.yaml", "config.1.yaml"))
    assert (now["training"]["max_steps"], before["training"]["max_steps"]) == (180, STEPS)
    assert (now["algorithm"]["gamma"], before["algorithm"]["gamma"]) == (0.9, 0.95)
    lineage = covey_json("lineage", run, "--json")["members"]
    living = [m for m in lineage if m["died_generation"] == 2]
    assert living and all("algorithm.gamma 0.95 -> 0.9" in m["change"] for m in living)
    assert not any("gamma" in m["change"] for m in lineage if m["died_generation"] == 1)
    (elite,) = (m for m in lineage if m["died_generation"] is None and m["generation"] < 2)
    for told in ("algorithm.gamma 0.95 -> 0.9", "algorithm.lr_actor", "-> 0.0002"):
        assert told in elite["change"], "it has begun another generation since"
    assert elite["mutation"] != "elite", "how it was born, as a running learner says"
    assert all(m["hyperparameters"]["gamma"] == 0.9 for m in covey_json("members", run, "--json")["members"])
    events = covey_json("status", run, "--json")["events"]
    assert any("training.max_steps 120 -> 180" in e and "logging.interval_s" in e for e in events)


def test_a_journal_without_the_checkpoint_that_it_follows_is_refused(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    done = covey("train", "--resume", run, "--set", "training.max_steps=180")
    assert done.returncode == 7 and "no checkpoint" in done.stderr


def test_a_start_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    good = write_config(tmp_path / "job.yaml")
    runs = tmp_path / "runs"
    missing = covey("train", tmp_path / "nothing.yaml", "--runs", runs)
    environment = covey("train", good, "--runs", runs, "--set", "environment.name=no.such_module")
    device = covey("train", good, "--runs", runs, "--set", "learner.device=cuda:99")
    secured = covey("learner", good, "--runs", runs, "--tls", tmp_path / "nothing")
    assert [done.returncode for done in (missing, environment, device)] == [2, 3, 2]
    assert secured.returncode != 0
    assert not runs.exists() or list(runs.iterdir()) == []


def test_a_run_in_the_background_goes_on_without_its_terminal(tmp_path: Path) -> None:
    training = {"evo_steps": STEPS, "pop_size": 2, "confirm_episodes": 2}
    config = write_config(tmp_path / "job.yaml", training=training)
    asked = ("--name", "mine", "--seed", 7, "--steps", STEPS)
    done = covey("train", config, "--runs", tmp_path / "runs", "--detach", *asked)
    assert done.returncode == 0 and "covey watch" in done.stderr
    run = newest_run(tmp_path / "runs")
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["name"], kept["training"]["seed"], kept["training"]["max_steps"]) == ("mine", 7, STEPS)
    assert run.name.startswith("mine-")
    until(lambda: (run / "result.json").exists(), 240, what="it is complete")
    assert json.loads((run / "result.json").read_text())["state"] == "complete"


def test_a_run_whose_learner_was_killed_is_dead(tmp_path: Path) -> None:
    training = {"max_steps": 10**6, "evo_steps": 10**5, "pop_size": 2}
    config = write_config(tmp_path / "job.yaml", training=training)
    with processes() as start:
        train = start(tmp_path / "train.log", "train", config, "--runs", tmp_path / "runs")
        until(lambda: list(tmp_path.glob("runs/*/status.json")), 120, what="it trains")
        train.kill()
    run = newest_run(tmp_path / "runs")
    done = covey("status", run, "--json")
    assert json.loads(done.stdout)["state"] == "dead"
    assert f"covey train --resume {run}" in done.stderr


def test_the_port_is_free_again_after_a_learner_has_ended(tmp_path: Path) -> None:
    port = free_port()
    config = load_config(write_config(tmp_path / "again.yaml", learner={"bind": f"127.0.0.1:{port}"}))
    for _ in range(2):
        process = LearnerProcess(config, new_run(config, tmp_path / "runs"))
        assert process.start() == f"127.0.0.1:{port}"
        process.stop()
