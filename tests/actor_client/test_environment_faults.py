"""Environments that do not work any more, in real actor processes: the learner is told why they end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.support.actor_processes import StartActor, ended
from tests.support.processes import started, until
from tests.support.scripted_learner import ScriptedLearner
from tests.support.scripted_orders import order

from covey.v1.environment_pb2 import VECTORISATION_ASYNC

StartHostile = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def learner(learner: ScriptedLearner) -> ScriptedLearner:
    learner.environment.entry_point = "tests.support.hostile_environment:hostile"
    return learner


@pytest.fixture
def hostile(learner: ScriptedLearner, start: StartActor) -> StartHostile:
    """Starts an actor whose environments go wrong in the way that is asked for."""

    def start_hostile(**config: object) -> subprocess.Popen[str]:
        learner.environment.config_json = json.dumps(config)
        return start("--learner", learner.address, "--allow-env", "tests.*")

    return start_hostile


def test_one_that_only_raises_is_given_up_after_a_few_orders(learner: ScriptedLearner, hostile: StartHostile) -> None:
    actor = hostile(how="raise", at=1)
    work = learner.stream()
    for i in (1, 2, 3):
        work.order(order(i))
        assert len(work.fragment().faults) == 3
        work.ack(i)
    reason = work.finish().reason
    code, err = ended(actor)
    assert code == 3 and "Traceback" not in err
    assert (
        "'tests.support.hostile_environment:hostile': no good step in 3 orders" in reason
        and "RuntimeError: out of order" in reason
    )
    assert reason in err, "who started it reads what the learner does"


def test_one_good_step_is_enough_to_go_on(learner: ScriptedLearner, hostile: StartHostile) -> None:
    actor = hostile(how="raise", at=2)
    work = learner.stream()
    for i in range(1, 6):
        work.order(order(i))
        assert work.fragment().faults
        work.ack(i)
    work.drain(run_complete=True)
    work.finish()
    assert ended(actor)[0] == 0


def test_one_that_hangs_ends_its_process_and_what_was_collected_is_delivered(
    learner: ScriptedLearner, hostile: StartHostile, tmp_path: Path
) -> None:
    learner.environment.step_timeout_s = 0.8
    learner.joined.heartbeat_interval_s = 0.2
    armed = tmp_path / "armed"
    actor = hostile(how="hang", at=3, armed=str(armed))
    work = learner.stream()
    armed.touch()
    work.order(order(1, steps=2))
    work.order(order(2, steps=2))
    assert work.fragment().order_id == 1
    work.heartbeat()  # it lives, as its other threads do
    work.ack(1)
    reason = work.finish().reason
    assert "has not returned from a step or reset for 1 s, expected at most 0.8 s" in reason
    code, err = ended(actor)
    assert code == 9 and reason in err and "Traceback" not in err


def test_a_hanging_worker_process_is_replaced(learner: ScriptedLearner, hostile: StartHostile, tmp_path: Path) -> None:
    learner.environment.step_timeout_s = 2.0
    learner.environment.vectorisation = VECTORISATION_ASYNC
    armed = tmp_path / "armed"
    actor = hostile(how="hang", at=2, armed=str(armed))
    work = learner.stream()
    armed.touch()
    work.order(order(1))
    fragment = work.fragment()
    assert [f.message for f in fragment.faults] == ["worker 0 (slot 0) gave no answer for 2 s"]
    assert fragment.streams[0].steps == 3
    work.ack(1)
    work.drain(run_complete=True)
    work.finish()
    assert ended(actor)[0] == 0


def test_a_frozen_process_does_not_blame_its_environment(learner: ScriptedLearner, hostile: StartHostile) -> None:
    learner.environment.step_timeout_s = 0.8
    actor = hostile(how="raise", at=10**6)
    work = learner.stream()
    work.order(order(1, steps=4096))
    process = psutil.Process(actor.pid)
    until(lambda: len(learner.fetched) == 3)
    process.suspend()
    with pytest.raises(subprocess.TimeoutExpired):
        actor.wait(1.5)
    process.resume()
    assert work.fragment().streams[0].steps == 4096
    work.ack(1)
    work.drain(run_complete=True)
    work.finish()
    assert ended(actor)[0] == 0


SIGNAL_TO_ANOTHER_THREAD = """
import signal, sys, threading
from covey_actor.process import ActorOptions, run_actor

def interrupt():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=interrupt, daemon=True).start()
sys.exit(run_actor(ActorOptions(learner=sys.argv[1], allow_env=["tests.*"])))
"""


def test_a_signal_that_does_not_interrupt_the_wait_for_an_order_ends_it(learner: ScriptedLearner) -> None:
    """As one does that comes right before it: the main thread goes on to wait, and runs no handler."""
    learner.environment.config_json = json.dumps({"how": "raise", "at": 2})
    command = [sys.executable, "-c", SIGNAL_TO_ANOTHER_THREAD, learner.address]
    with started(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as actor:
        work = learner.stream()
        work.order(order(1))
        work.fragment()
        work.ack(1)
        assert actor.stdin is not None
        actor.stdin.write("\n")
        actor.stdin.flush()
        assert work.finish().reason == "SIGTERM"
        assert ended(actor)[0] == 0


def test_signals_reach_an_actor_whose_environment_hangs(
    learner: ScriptedLearner, hostile: StartHostile, tmp_path: Path
) -> None:
    armed = tmp_path / "armed"
    actor = hostile(how="hang", at=1, armed=str(armed))
    work = learner.stream()
    armed.touch()
    work.order(order(1))
    until(lambda: not armed.exists())
    actor.send_signal(signal.SIGTERM)
    actor.send_signal(signal.SIGINT)
    # Of two that are pending the system delivers the one with the lower number first, in whatever order they were sent.
    assert ended(actor)[0] in (128 + signal.SIGINT, 128 + signal.SIGTERM), "a second one ends it at once"
