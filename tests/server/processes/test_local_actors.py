"""Local actors: wait for the learner's address, learn of it whenever they start, end with the block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests.support.processes import free_port, until, write_config

from covey.config import Config, load_config
from covey.errors import RefusedError
from covey_server.processes.local_actors import LocalActors


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A run of two local actors."""
    return load_config(write_config(tmp_path / "job.yaml"))


def children() -> list[psutil.Process]:
    """The processes that this one has started and that still run."""
    return [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE and p.ppid()]


def test_nothing_here_imports_torch() -> None:
    code = "import covey_server.cli, covey_server.processes.local_actors as l, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_actors_wait_until_they_are_told_and_leave_with_the_block(config: Config) -> None:
    before = {p.pid for p in children()}
    with LocalActors(config, 2) as actors:
        waiting = [p for p in children() if p.pid not in before]
        assert len(waiting) == 2
        # They have imported what they need, environment included, and read on from stdin.
        until(lambda: all(any("mpe2" in f for f in opened(p)) for p in waiting), what="they have imported")
        actors.check(0)
    assert not any(p.is_running() for p in waiting)


def opened(process: psutil.Process) -> list[str]:
    """Libraries that a process has loaded, by path; mpe2 draws by pygame."""
    return ["mpe2" for m in process.memory_maps() if "pygame" in m.path]


def kill_one(before: set[int]) -> None:
    """Kill an actor, and wait until it is dead; `before` are other processes."""
    victim = next(p for p in children() if p.pid not in before)
    victim.kill()
    # A process of many threads is a zombie before the last of them has ended, and only then there is an exit code,
    # which is left for whoever started it.
    os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)


def test_an_actor_that_starts_later_is_told_too_and_deaths_are_counted(config: Config) -> None:
    said: list[str] = []
    before = {p.pid for p in children()}
    with LocalActors(config, 2) as actors:
        # Nobody listens there: the actors say so, which shows that they were told.
        address = f"127.0.0.1:{free_port()}"
        actors.attach(address, None, said.append)
        until(lambda: {n for n in ("local-0", "local-1") for line in said if n in line} == {"local-0", "local-1"})
        assert all(address in line for line in said)
        for deaths in (1, 2):
            kill_one(before)
            said.clear()
            actors.check(env_steps=0)
            until(lambda: any(address in line for line in said), what=f"successor {deaths} was told")
        kill_one(before)
        with pytest.raises(RefusedError, match="3 times without an env step"):
            actors.check(env_steps=0)
    assert {p.pid for p in children()} <= before


def test_more_actors_start_and_fewer_leave_in_order(config: Config) -> None:
    before = {p.pid for p in children()}
    said: list[str] = []
    with LocalActors(config, 1) as actors:
        actors.attach(f"127.0.0.1:{free_port()}", None, said.append)
        (first,) = (p for p in children() if p.pid not in before)
        actors.keep(3)
        assert len({p.pid for p in children()} - before) == 3
        until(lambda: all(any(f"local-{i}" in line for line in said) for i in range(3)), what="all were told")
        actors.keep(1)
        until(lambda: {p.pid for p in children()} - before == {first.pid}, what="the newest have left")
        actors.check(env_steps=0)  # nobody died
        assert {p.pid for p in children()} - before == {first.pid}
    assert {p.pid for p in children()} <= before


def test_one_that_was_told_to_leave_is_none_that_is_there(config: Config) -> None:
    before = {p.pid for p in children()}
    with LocalActors(config, 2) as actors:
        said: list[str] = []
        actors.attach(f"127.0.0.1:{free_port()}", None, said.append)
        first, other = (p for p in children() if p.pid not in before)
        # Nobody listens there, as they say: then they also know what to do with a signal.
        until(lambda: all(any(f"local-{i}" in line for line in said) for i in range(2)), what="both were told")
        first.terminate()
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # as in `kill_one`
        actors.check(env_steps=0)
        assert actors.running == 1
        actors.keep(1)
        assert {p.pid for p in children()} - before == {other.pid}


def test_an_extra_actor_that_dies_is_not_replaced(config: Config) -> None:
    before = {p.pid for p in children()}
    with LocalActors(config, 1) as actors:
        actors.attach(f"127.0.0.1:{free_port()}", None, lambda line: None)
        (first,) = (p for p in children() if p.pid not in before)
        actors.keep(2)
        (extra,) = (p for p in children() if p.pid not in before | {first.pid})
        extra.kill()
        os.waitid(os.P_PID, extra.pid, os.WEXITED | os.WNOWAIT)
        for _ in range(5):
            actors.check(env_steps=0)
        assert actors.running == 1 and {p.pid for p in children()} - before == {first.pid}
