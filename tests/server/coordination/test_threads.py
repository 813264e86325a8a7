"""Every thread and task that a learner lives by is on the list, and none of them ends unseen.

Exceptions are raised inside the threads themselves, wherever they happen to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.support.processes import until, write_config
from tests.support.scripted_actor import ScriptedActor

from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1 import population_service_pb2 as pb
from covey.v1 import population_service_pb2_grpc as services
from covey_server.app import LearnerProcess
from covey_server.coordination.run_state import RunState, ThreadEnded
from covey_server.coordination.threads import in_thread

THREADS = ["grpc", "journal", "trainer", "checkpoint"]
TASKS = ["housekeeping"]
FOREIGN = ("MainThread", "grpc_python", "pytest", "asyncio_", "Thread-", "tqdm_")
"""Threads that are not the learner's: gRPC's own, the test's, a progress bar's, and those without a name."""


class Injected(Exception):
    """Raised inside a thread by a test."""


class InjectedExit(BaseException):
    """No Exception, as SystemExit is none."""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[LearnerProcess]:
    config = load_config(
        write_config(tmp_path / "job.yaml", environment={"spaces_from": "local"}, learner={"heartbeat_interval_s": 0.5})
    )
    made = LearnerProcess(config, new_run(config, tmp_path / "runs"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


def raise_in(thread: threading.Thread, exc: type[BaseException]) -> None:
    """Have a thread raise at its next instruction of Python."""
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(exc)) == 1


def thread_of(name: str) -> threading.Thread:
    (found,) = [t for t in threading.enumerate() if t.name == name]
    return found


def status(process: LearnerProcess) -> pb.Status:
    with grpc.insecure_channel(process.address) as channel:
        answer: pb.GetStatusResponse = services.PopulationServiceStub(channel).GetStatus(
            pb.GetStatusRequest(), timeout=20, wait_for_ready=True
        )
    return answer.status


def test_what_runs_is_what_is_listed(process: LearnerProcess) -> None:
    until(lambda: process.learner.scheduler.ledgers and not process.trainer.lock.held, what="the population is there")
    listed = [(w.name, w.kind, w.alive) for w in status(process).threads]
    assert sorted(listed) == sorted([(n, "thread", True) for n in THREADS] + [(n, "task", True) for n in TASKS])
    running = {t.name for t in threading.enumerate() if not t.name.startswith(FOREIGN)}
    assert running == set(THREADS), "a thread that is new in the learner belongs on the list, and into this test"


def test_tasks_that_run_are_listed_or_end_with_their_call(process: LearnerProcess) -> None:
    loop = process._grpc._loop

    async def names() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    own = asyncio.run_coroutine_threadsafe(names(), loop).result(20)
    # Others are named by number: gRPC's, one for its server and one for each call.
    assert {name for name in own if not name.startswith("Task-")} == set(TASKS)


# Raised between `open` and `with`, where nothing else raises, an exception leaves a file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("exc", [Injected, InjectedExit, SystemExit])
@pytest.mark.parametrize("name", THREADS)
def test_a_thread_that_ends_ends_the_run(process: LearnerProcess, name: str, exc: type[BaseException]) -> None:
    until(lambda: process.learner.state is RunState.TRAINING, what="training")
    # Until a new thread runs, Python keeps it under the id of the one that starts it, and would raise in the wrong one.
    until(lambda: {t.name for t in threading.enumerate() if t.is_alive()} >= set(THREADS), what="all threads run")
    thread = thread_of(name)
    # What is raised just while Python runs a destructor or a callback is lost: then again.
    for _ in range(6):
        raise_in(thread, exc)
        # A thread that waits inside of C code raises when it wakes, as it does for a checkpoint.
        with grpc.insecure_channel(process.address) as channel, contextlib.suppress(grpc.RpcError):
            services.PopulationServiceStub(channel).Checkpoint(pb.CheckpointRequest(), timeout=5)
        thread.join(5)
        if not thread.is_alive():
            break
    until(lambda: process.learner.fault is not None, what=f"the end of {name} is noticed")
    fault = process.learner.fault
    if issubclass(exc, Exception):
        assert isinstance(fault, Injected)
    else:
        assert isinstance(fault, ThreadEnded) and str(fault).startswith(f"{name} was ended by {exc.__name__}")
    until(lambda: not process.trainer.is_alive(), what="the run ends")
    assert process.learner.state is RunState.FAILED
    with pytest.raises(type(fault)):
        process.wait()


def test_housekeeping_survives_an_exception_and_tells_it(
    process: LearnerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = True
    sample = process.report.sample

    def fail() -> None:
        if failing:
            raise Injected("no sample today")
        sample()

    monkeypatch.setattr(process.report, "sample", fail)
    told = until(
        lambda: [e for e in status(process).events if "housekeeping failed (Injected no sample today)" in e],
        what="the fault is told",
    )
    assert told[0].endswith("1 times; it goes on")
    failing = False
    assert status(process).counters["housekeeping_failed"] >= 1
    before = len(process.report._samples)
    until(lambda: len(process.report._samples) > before, what="housekeeping goes on")
    assert process.learner.fault is None


def test_an_exit_inside_of_housekeeping_ends_the_run(process: LearnerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave() -> None:
        raise SystemExit(0)

    monkeypatch.setattr(process.report, "sample", leave)
    until(lambda: process.learner.fault is not None, what="the run ends")
    assert process.learner.state is RunState.FAILED


def test_an_exit_inside_of_an_actors_stream_ends_the_run(
    process: LearnerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(process.intake, "receive", leave)
    actor = ScriptedActor(process.address)
    actor.join()
    actor.send(actor.play(actor.order()))
    until(lambda: process.learner.fault is not None, what="the run ends")
    actor.vanish()


def test_a_function_in_a_thread_of_its_own() -> None:
    async def call() -> tuple[int, str, str]:
        def leave() -> None:
            raise SystemExit(3)

        number = await in_thread("sum", sum, [1, 2])
        texts = []
        for function in (lambda: 1 // 0, leave):
            try:
                await in_thread("odd", function)
            except Exception as exc:
                texts.append(f"{type(exc).__name__}: {exc}")
        return number, texts[0], texts[1]

    assert asyncio.run(call()) == (
        3,
        "ZeroDivisionError: integer division or modulo by zero",
        "RuntimeError: odd was ended by SystemExit 3",
    )
