"""Real processes, really killed: the run goes on, and every member still has exactly its steps."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import torch
from tests.support.processes import PATIENCE_S, covey, covey_json, free_port, newest_run, processes, until, write_config
from tests.support.running_learners import MAX_STEPS, actors_with_steps, assert_exact_steps, status, steps_of

from covey.config import load_config
from covey.run.directory import RunDirectory
from covey.v1.fragment_pb2 import ReceivedFragment
from covey.v1.population_service_pb2 import DrainActorRequest
from covey.v1.population_service_pb2_grpc import PopulationServiceStub
from covey_server.app import LearnerProcess
from covey_server.experience.replay import Replay
from covey_server.storage.journal import Journal, Kind


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of two generations, long enough to be hit in the middle."""
    return write_config(
        tmp_path / "faults.yaml",
        training={"max_steps": MAX_STEPS, "evo_steps": MAX_STEPS // 2},
        checkpoint={"every_s": 1.0, "journal_sync_s": 0.1},
    )


IMAGES = "tests.support.moving:moving"
IMAGE_NETWORK = {"encoder_config": {"channel_size": [8], "kernel_size": [3], "min_channel_size": 4}}


@pytest.mark.parametrize("seen", ["vectors", "stacks of vectors", "stacks of images"])
def test_an_actor_killed_and_replaced_costs_no_member_a_step(seen: str, tmp_path: Path) -> None:
    sections: dict[str, dict[str, Any]] = {}
    if seen != "vectors":
        sections["environment"] = {"frame_stack": 3}
    if seen == "stacks of images":
        sections["environment"] |= {"name": IMAGES, "config": {}}
        sections["network"] = IMAGE_NETWORK
        sections["algorithm"] = {"learn_step": 400}  # an update of convolutions takes as long as many env steps
    config = write_config(
        tmp_path / "faults.yaml", training={"max_steps": MAX_STEPS, "evo_steps": MAX_STEPS // 2}, **sections
    )
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        actor = "actor", "--learner", address, "--allow-env", IMAGES
        first = start(tmp_path / "a1.log", *actor, "--name", "a1")
        start(tmp_path / "a2.log", *actor, "--name", "a2")
        until(lambda: actors_with_steps(address) == {"a1", "a2"}, what="both are at work")
        first.kill()
        start(tmp_path / "a1b.log", *actor, "--name", "a1")
        assert learner.wait() == 0, learner.output()
    run = newest_run(tmp_path / "runs")
    assert_exact_steps(run)
    assert any("a1" in event for event in covey_json("status", run, "--json")["events"])


def test_a_learner_killed_and_resumed_goes_on_with_actors_that_come_back_by_themselves(
    config: Path, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        log = tmp_path / "learner.log"
        learner = start(log, "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        actor = start(tmp_path / "a1.log", "actor", "--learner", address, "--name", "a1")
        for kill_after in (1500, 5000):
            until(lambda: steps_of(address) > kill_after, what=f"{kill_after} steps are in")  # noqa: B023
            learner.kill()
            run = newest_run(tmp_path / "runs")
            assert not (run / "result.json").exists(), "killed in the middle"
            learner = start(log, "learner", "--resume", run)
        assert learner.wait() == 0, learner.output()
        assert actor.wait() == 0, "a complete run ends its actors with code 0"
    assert_exact_steps(newest_run(tmp_path / "runs"))
    assert "resumed generation" in log.read_text()


def test_the_durable_journal_is_what_a_resumed_replay_holds(config: Path, tmp_path: Path) -> None:
    """Content, not counts: every step row journalled before the kill is in the replay of the next life."""
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        start(tmp_path / "a1.log", "actor", "--learner", address)
        until(lambda: steps_of(address) > 2500, what="some steps are in")
        learner.kill()
    run = RunDirectory.open(newest_run(tmp_path / "runs"))
    journal = Journal.open(run.journal, 1 << 25)
    records = [(at, ReceivedFragment.FromString(p)) for at, kind, p in journal.read() if kind == Kind.FRAGMENT]
    journal.close()
    config_again = load_config(run.config, ["logging.csv=false"])
    process = LearnerProcess(config_again, run, resume=True)
    population = process.learner.population
    assert population is not None
    expected = Replay(population.spaces, config_again.replay_buffer.max_size, 1 << 28)
    for at, received in records:
        fragment = received.fragment
        count = sum(s.rows for s in fragment.streams)
        if count and not received.refused:
            expected.insert(population.schema.decode(fragment.blob, count, fragment.raw_bytes), fragment.streams, at)
    assert len(expected) > 2500 and len(expected) == sum(m.env_steps for m in population.members)
    assert isinstance(population.experience, Replay)
    held = population.experience.step_rows()
    assert all(torch.equal(rows, held[dtype]) for dtype, rows in expected.step_rows().items())
    process.stop()


@pytest.fixture
def _hangup_counts() -> Iterator[None]:
    """Under `nohup` processes inherit that hangups are ignored, and covey then ignores them too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_hangup_counts")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_run_with_a_checkpoint_that_can_be_resumed(
    config: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with processes() as start:
        train = start(tmp_path / "train.log", "train", config, "--runs", tmp_path / "runs", "--json")
        run = until(lambda: (tmp_path / "runs").exists() and newest_run(tmp_path / "runs"), what="the run exists")
        until(lambda: (run / "address.json").exists(), what="it serves")
        address = json.loads((run / "address.json").read_text())["address"]
        until(lambda: steps_of(address) > 1500, what="some steps are in")
        children = psutil.Process(train.popen.pid).children(recursive=True)
        train.popen.send_signal(number)
        assert train.wait() == 128 + number, train.output()
        until(lambda: not any(c.is_running() and c.status() != "zombie" for c in children), what="actors are gone")
    result = json.loads(train.output().strip().splitlines()[-1])
    assert result["state"] == "stopped" and 1500 < result["env_steps"] < 4 * MAX_STEPS
    assert json.loads((run / "result.json").read_text())["state"] == "stopped"
    assert covey_json("status", run, "--json")["state"] == "stopped"
    resumed = covey_json("train", "--resume", run, "--json")
    assert resumed["state"] == "complete" and resumed["env_steps"] == 4 * MAX_STEPS
    assert_exact_steps(run)


def test_a_drained_actor_leaves_and_the_run_goes_on_without_it(config: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        drained = start(tmp_path / "a1.log", "actor", "--learner", address, "--name", "a1")
        until(lambda: steps_of(address) > 500, what="some steps are in")
        start(tmp_path / "a2.log", "actor", "--learner", address, "--name", "a2")
        with grpc.insecure_channel(address) as channel:
            PopulationServiceStub(channel).DrainActor(DrainActorRequest(actor_id="a1"), timeout=PATIENCE_S)
        assert drained.wait() == 0, drained.output()
        assert learner.wait() == 0, learner.output()
    assert_exact_steps(newest_run(tmp_path / "runs"))


def test_an_environment_that_raises_is_rebuilt_counted_and_named(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "raises.yaml",
        environment={
            "name": "tests.support.environments:counter",
            "config": {"raise_at": 7, "length": 20, "raise_every": 3},
            "num_envs": 2,
        },
        training={"max_steps": 600, "evo_steps": 300, "pop_size": 2},
    )
    result = covey_json("train", config, "--runs", tmp_path / "runs", "--json")
    assert result["env_steps"] == 2 * 600
    answered = covey_json("status", result["run_dir"], "--json")
    assert answered["counters"]["environment_fault"] > 10
    assert any("tests.support.environments:counter" in e and "rebuilt" in e for e in answered["events"])


def test_an_environment_that_is_not_allowed_is_not_loaded(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = write_config(
        tmp_path / "other.yaml", environment={"name": "tests.support.environments:counter", "config": {}}
    )
    with processes() as start:
        start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        done = covey("actor", "--learner", address)
        assert done.returncode == 3 and "--allow-env" in done.stderr and "Traceback" not in done.stderr


def test_no_learner_is_a_sentence_and_a_code(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = covey("actor", "--learner", address, "--max-reconnect-s", 1)
    assert done.returncode == 5 and address in done.stderr and "Traceback" not in done.stderr
    del tmp_path


def test_an_actor_process_is_light_and_has_no_torch(config: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        actor = start(tmp_path / "a1.log", "actor", "--learner", address)
        until(lambda: steps_of(address) > 500, what="some steps are in")
        maps = Path(f"/proc/{actor.popen.pid}/maps").read_text()
        assert "torch" not in maps, "an actor never loads torch"


def test_a_frozen_actor_is_given_up_and_fenced_out_when_it_wakes(config: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with processes() as start:
        learner = start(tmp_path / "learner.log", "learner", config, "--bind", address, "--runs", tmp_path / "runs")
        until(lambda: status(address), what="the learner answers")
        frozen = start(tmp_path / "a1.log", "actor", "--learner", address, "--name", "a1")
        until(lambda: steps_of(address) > 500, what="some steps are in")
        os.killpg(frozen.popen.pid, signal.SIGSTOP)
        events = until(
            lambda: [e for e in (status(address) or {}).get("events", []) if "a1 silent" in e], what="it is noticed"
        )
        # Two heartbeat intervals by the learner's own clock; more is how late a busy machine lets it look.
        assert re.search(r"a1 silent for [234] s", events[0])
        start(tmp_path / "a2.log", "actor", "--learner", address, "--name", "a2")
        os.killpg(frozen.popen.pid, signal.SIGCONT)
        assert learner.wait() == 0, learner.output()
    assert_exact_steps(newest_run(tmp_path / "runs"))
