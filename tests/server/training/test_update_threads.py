"""How many threads an update gets: what is pinned stays, else measured waits and seconds say, and changes are told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.processes import ENVIRONMENT, covey, write_config
from tests.support.running_actors import Running

from covey.config import load_config, parse_config
from covey.resources import usable_cores
from covey.run.new_run import new_run
from covey_server.app import LearnerProcess
from covey_server.orders.at_work import ActorsAtWork
from covey_server.orders.session import Session
from covey_server.training import update_threads
from covey_server.training.update_threads import UpdateThreads, check_threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """Leave torch as other tests expect it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Machine:
    """A machine of some cores with actors, on which time passes only in updates."""

    def __init__(self, cores: int, seconds: Callable[[int], float], actors: int = 0, fixed: int | None = None) -> None:
        self.now = 0.0
        self.seconds = seconds  # of an update by its number of threads
        self.told: list[str] = []
        self.used: list[int] = []
        self.at_work = ActorsAtWork(False, self.clock)
        self.sessions = [Session(actor_id=f"a{i}", incarnation=1, hostname=socket.gethostname()) for i in range(actors)]
        self.threads = UpdateThreads(fixed, cores, cores, self.at_work, self.told.append, self.clock)

    def clock(self) -> float:
        return self.now

    def work(self, *, busy: bool) -> None:
        """Give every actor an order, or let all of them wait."""
        for session in self.sessions:
            self.at_work.begin(session) if busy else self.at_work.end(session.key)

    def update(self, times: int, members: int = 1) -> None:
        for _ in range(times):
            self.threads.begin(members)
            self.used.append(torch.get_num_threads())
            self.now += self.seconds(self.used[-1])
            self.threads.end(members)


def test_idle_cores_are_used_where_that_makes_updates_faster() -> None:
    machine = Machine(4, lambda threads: 0.4 / threads, actors=2)
    machine.update(60)
    assert machine.used[0] == 1 and machine.threads.threads == 4
    assert [told.split(":")[1] for told in machine.told] == [" 2, before 1", " 4, before 2"]
    assert "50% less time" in machine.told[0]


@pytest.mark.parametrize("seconds", [lambda threads: 0.1, lambda threads: 0.1 * threads])
def test_threads_that_bring_nothing_are_tried_ever_more_rarely(seconds: Callable[[int], float]) -> None:
    machine = Machine(2, seconds)
    machine.update(3000)
    assert machine.threads.threads == 1 and machine.told == []
    assert 0 < machine.used.count(2) < 40


def test_short_updates_are_tried_in_larger_numbers() -> None:
    """Of updates of 1 ms, one in ten is disturbed for 50 ms: three of them would decide by chance."""
    machine = Machine(2, lambda threads: 0.05 if len(machine.used) % 10 == 0 else 0.001)
    machine.update(5000)
    assert machine.told == [] and machine.used.count(2) > 10


def test_no_thread_is_tried_on_the_core_of_an_actor_at_work() -> None:
    machine = Machine(2, lambda threads: 0.1 / threads, actors=2)
    machine.work(busy=True)
    machine.update(100)
    assert set(machine.used) == {1} and machine.told == []


def test_threads_go_when_actors_come_to_work_and_return_when_they_wait() -> None:
    machine = Machine(2, lambda threads: 0.5 / threads, actors=2)
    machine.update(20)
    assert machine.threads.threads == 2
    machine.work(busy=True)
    machine.update(20)
    assert machine.threads.threads == 1
    assert "of this machine's 2 cores busy" in machine.told[-1]
    machine.work(busy=False)
    machine.update(100)
    assert machine.threads.threads == 2 and len(machine.told) == 3


def test_updates_of_other_members_are_not_compared() -> None:
    """Eight members take longer than one, whatever the threads."""
    one, eight = (lambda threads: 0.1), (lambda threads: 0.8)
    machine = Machine(2, one)
    for _ in range(200):
        for members, machine.seconds in ((1, one), (8, eight)):
            machine.update(1, members=members)
    assert machine.told == []


@pytest.mark.parametrize("fixed", [1, 2, 3])
def test_a_number_that_is_configured_holds(fixed: int) -> None:
    machine = Machine(4, lambda threads: 0.4 / threads, fixed=fixed)
    machine.update(60)
    assert set(machine.used) == {fixed} and machine.told == []


def test_actors_of_other_machines_use_no_core_of_this_one() -> None:
    now = [0.0]
    work = ActorsAtWork(False, lambda: now[0])
    work.begin(Session(actor_id="far", incarnation=1, hostname="elsewhere"))
    here = Session(actor_id="near", incarnation=1, hostname=socket.gethostname())
    work.begin(here)
    work.begin(here)  # its second order
    now[0] = 3.0
    assert work.core_s == 3.0
    work.end(here.key)
    work.end(("never", 1))
    now[0] = 9.0
    assert work.core_s == 3.0


def test_environments_in_processes_of_their_own_use_a_core_each() -> None:
    now = [0.0]
    work = ActorsAtWork(True, lambda: now[0])
    work.begin(Session(actor_id="a", incarnation=1, hostname=socket.gethostname(), train_slots=3, eval_slots=1))
    now[0] = 2.0
    assert work.core_s == 8.0


def config(**sections: Any) -> Any:
    return parse_config({"algorithm": {"name": "IPPO"}, "environment": {"name": "none"}, "training": {}, **sections})


@pytest.mark.parametrize(
    ("sections", "fixed"),
    [
        ({"training": {"deterministic": True}}, 1),
        ({"training": {"deterministic": True}, "learner": {"torch_threads": 2}}, 2),
        ({"learner": {"torch_threads": 1}}, 1),
    ],
)
def test_deterministic_runs_and_configured_numbers_are_pinned(sections: dict[str, Any], fixed: int) -> None:
    threads = UpdateThreads.of(config(**sections), ActorsAtWork(False, lambda: 0.0), print)
    assert threads.threads == fixed and threads._fixed


@pytest.mark.parametrize("over", [1, 30, 1000])
def test_more_threads_than_cores_are_refused(over: int) -> None:
    cores = usable_cores()
    check_threads(config(learner={"torch_threads": cores}))
    with pytest.raises(Exception, match=rf"^learner.torch_threads {cores + over}, expected at most {cores}, the CPU"):
        check_threads(config(learner={"torch_threads": cores + over}))


def test_a_command_refuses_them_in_a_sentence_and_leaves_no_run(tmp_path: Path) -> None:
    made = write_config(tmp_path / "job.yaml", learner={"torch_threads": 5000})
    for command in ("train", "learner"):
        ended = covey(command, made, "--runs", tmp_path / "runs")
        assert ended.returncode == 2, ended.stderr
        assert "learner.torch_threads 5000, expected at most" in ended.stderr and "Traceback" not in ended.stderr
        assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize(("pinned", "changes"), [(None, True), (1, False)])
def test_a_real_run_tells_what_it_changes(
    pinned: int | None, changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(update_threads, "WORTH", 1e9)  # every trial is worth it, however noisy the machine
    monkeypatch.setattr(update_threads, "TRIAL_S", 0.0)
    torch.set_num_threads(2)
    made = load_config(
        write_config(
            tmp_path / "job.yaml",
            algorithm={"name": "IPPO", "learn_step": 64, "batch_size": 64, "update_epochs": 1},
            training={"pop_size": 1, "max_steps": 2048, "evo_steps": 2048},
            learner={"torch_threads": pinned},
        )
    )
    process = LearnerProcess(made, new_run(made, tmp_path / "runs"))
    try:
        actor = Running(process.start(), allow_env=("*",))
        process.wait()
    finally:
        process.stop()
    assert actor.ended() is None
    told = [event for event in process.learner.events if event.startswith("threads of an update")]
    assert bool(told) is changes, list(process.learner.events)


@pytest.mark.parametrize(
    ("given", "policy"),
    [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active"), ({"GOMP_SPINCOUNT": "100"}, "None")],
)
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: dict[str, str], policy: str) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environ = {name: value for name, value in os.environ.items() if name not in names} | given
    look = "import sys, os, covey_server; assert 'torch' not in sys.modules; print(os.environ.get('OMP_WAIT_POLICY'))"
    ended = subprocess.run([sys.executable, "-c", look], env=environ, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == policy


def test_the_result_of_a_deterministic_run_does_not_depend_on_the_cores_it_finds(tmp_path: Path) -> None:
    made = write_config(
        tmp_path / "job.yaml", training={"deterministic": True, "max_steps": 400, "evo_steps": 200, "pop_size": 2}
    )
    kept = []
    for threads in ("1", "2"):
        runs = tmp_path / threads
        command = [sys.executable, "-m", "covey", "train", str(made), "--runs", str(runs), "--json"]
        environ = ENVIRONMENT | {"OMP_NUM_THREADS": threads}
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        best = Path(json.loads(ended.stdout)["run_dir"]) / "best"
        kept.append({p.name: p.read_bytes() for p in best.iterdir() if p.suffix != ".json"})
    assert kept[0] == kept[1] and kept[0]
