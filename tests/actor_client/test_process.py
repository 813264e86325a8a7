"""Real actor processes: exit codes, signals, workers, and what they cost."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest
from tests.support.actor_processes import StartActor, ended
from tests.support.processes import PATIENCE_S, until
from tests.support.scripted_learner import ScriptedLearner
from tests.support.scripted_orders import order

from covey.v1 import actor_service_pb2 as pb
from covey.v1.environment_pb2 import VECTORISATION_ASYNC


def test_a_complete_run_ends_with_0_and_a_worker_is_lean(learner: ScriptedLearner, start: StartActor) -> None:
    learner.environment.entry_point, learner.environment.config_json = "mpe2.simple_speaker_listener_v4", "{}"
    # The scripted learner's schema is another one: this actor is refused, but by then it has loaded all it needs.
    actor = start("--learner", learner.address)
    code, err = ended(actor)
    assert code == 6 and "row schema" in err
    while not learner.streams.empty():  # it may have opened one before it left
        learner.streams.get()
    learner.environment.entry_point = "tests.support.environments:counter"
    actor = start("--learner", learner.address, "--allow-env", "tests.*", "--name", "x")
    work = learner.stream()
    process = psutil.Process(actor.pid)
    assert process.memory_info().rss < 100e6
    assert not [m.path for m in process.memory_maps() if "torch" in m.path]
    work.order(order(1))
    work.fragment()
    work.ack(1)
    work.drain(run_complete=True)
    work.finish()
    code, err = ended(actor)
    assert code == 0, err
    assert "Traceback" not in err


def test_environments_in_processes_if_the_learner_says_so_and_one_that_dies_is_a_fault(
    learner: ScriptedLearner, start: StartActor
) -> None:
    learner.environment.vectorisation = VECTORISATION_ASYNC
    actor = start("--learner", learner.address, "--allow-env", "tests.*")
    work = learner.stream()
    work.order(order(1))
    assert not work.fragment().faults
    work.ack(1)
    workers = psutil.Process(actor.pid).children()
    assert workers
    workers[0].kill()
    work.order(order(2))
    faults = work.fragment().faults
    assert faults and all(f.message.endswith("ended with signal 9") for f in faults)
    work.ack(2)
    work.order(order(3))
    assert not work.fragment().faults
    work.ack(3)
    work.drain(run_complete=True)
    work.finish()
    code, err = ended(actor)
    assert code == 0, err
    assert not any(w.is_running() for w in workers)


def test_sigterm_delivers_and_ends_with_0(learner: ScriptedLearner, start: StartActor) -> None:
    # By way of the command: the process becomes the actor, so the signal reaches it.
    actor = start("--learner", learner.address, "--allow-env", "tests.*", module="covey")
    work = learner.stream()
    work.order(order(1, steps=4096))
    until(lambda: len(learner.fetched) == 3)
    actor.send_signal(signal.SIGTERM)
    assert work.fragment().order_id == 1
    work.ack(1)
    assert work.finish().reason == "SIGTERM"
    code, err = ended(actor)
    assert code == 0, err


SLOW_TO_BUILD = """
import time
from tests.support.environments import counter

def build(**kwargs):
    open(MARK, "w").close()
    time.sleep(1)
    return counter(**kwargs)
"""


@pytest.mark.parametrize(
    ("number", "imports"), [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGTERM, True)]
)
def test_who_is_told_to_leave_while_the_environment_is_loaded_never_joins(
    learner: ScriptedLearner, start: StartActor, tmp_path: Path, number: signal.Signals, imports: bool
) -> None:
    mark = tmp_path / "mark"
    text = f"MARK = {str(mark)!r}\n{SLOW_TO_BUILD}" + ("build()\n" if imports else "")
    (tmp_path / "slow_to_build.py").write_text(text)
    learner.environment.entry_point = "slow_to_build:build"
    allow = ("--allow-env", "slow_to_build:build", "--env-path", str(tmp_path))
    actor = start("--learner", learner.address, *allow)
    until(lambda: mark.exists() or actor.poll() is not None, what="the environment is loaded")
    actor.send_signal(number)
    code, err = ended(actor)
    assert (code, learner.joins.qsize()) == (0, 0), err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--learner", "nonsense"], 2, "expected HOST:PORT"),
        (["--learner", "127.0.0.1:1", "--max-reconnect-s", "0.2"], 5, "has not answered for"),
    ],
)
def test_errors_are_one_sentence_and_a_code(arguments: list[str], code: int, says: str, start: StartActor) -> None:
    ended_with, err = ended(start(*arguments))
    last = err.strip().splitlines()[-1]
    assert ended_with == code and says in last and "Traceback" not in err


def test_workers_have_names_share_signals_and_the_worst_code_counts(
    learner: ScriptedLearner, start: StartActor
) -> None:
    arguments = ("--learner", learner.address, "--workers", "2", "--name", "w", "--allow-env", "tests.*")
    parent = start(*arguments, module="covey")
    first, second = learner.stream(), learner.stream()
    names = sorted([learner.join().actor_id, learner.join().actor_id])
    assert names == ["w-0", "w-1"]
    first.error(pb.StreamError.CODE_FENCED, "two of you")
    # At any moment of the first worker's end: what it ends with is decided.
    time.sleep(0.2)
    parent.send_signal(signal.SIGINT)
    assert second.finish().reason == "SIGINT"
    code, err = ended(parent)
    assert code == 6 and "two of you" in err


def test_a_worker_that_was_killed_is_started_again(learner: ScriptedLearner, start: StartActor) -> None:
    arguments = ("--learner", learner.address, "--workers", "2", "--name", "w", "--allow-env", "tests.*")
    parent = start(*arguments, module="covey")
    assert learner.stream() and learner.stream()
    joined = {(join := learner.join()).actor_id: join.incarnation for _ in range(2)}
    children = psutil.Process(parent.pid).children()
    children[0].kill()
    another = learner.stream()
    again = learner.join()
    assert again.actor_id in joined and again.incarnation != joined[again.actor_id]
    parent.send_signal(signal.SIGTERM)
    assert another.finish().reason == "SIGTERM"
    code, err = ended(parent)
    assert code == 0 and "was ended by signal 9; another in 1 s" in err


def test_workers_leave_when_their_parent_is_killed(learner: ScriptedLearner, start: StartActor) -> None:
    parent = start(*("--learner", learner.address, "--workers", "2", "--allow-env", "tests.*"), module="covey")
    streams = learner.stream(), learner.stream()
    children = psutil.Process(parent.pid).children()
    assert len(children) == 2
    parent.kill()
    for stream in streams:
        assert stream.finish().reason == "parent process ended"
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
    ended(parent)
