"""Slots in worker processes: the same arrays as in one process, and what becomes of workers that end or hang."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from tests.support.environments import CounterEnv, counter
from tests.support.processes import PATIENCE_S, started

from covey.envs import Slots, SyncSlots, TurnsEnv, build_slots, read_spaces
from covey.envs.processes import AsyncSlots
from covey.envs.random_actions import random_action
from covey.errors import EnvironmentLoadError
from covey.spaces import EnvironmentSpaces

SPACES = read_spaces(CounterEnv())


class FragileEnv(CounterEnv):
    """In step 2 of the episode of seed 13 it does something."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act = act

    def step(self, actions: dict[str, Any]) -> Any:
        if (self.seed, self.count) == (13, 1):
            self.act()
        return super().step(actions)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def speaker_listener() -> Any:
    from mpe2 import simple_speaker_listener_v4

    return simple_speaker_listener_v4.parallel_env(continuous_actions=True)


def dying_walker() -> Any:
    return CounterEnv(length=5, walker_dies_at=3)


def zombies() -> Any:
    from pettingzoo.butterfly import knights_archers_zombies_v11

    return knights_archers_zombies_v11.parallel_env(max_cycles=50, spawn_delay=1, line_death=True)


def turns() -> Any:
    from pettingzoo.classic import tictactoe_v3

    return TurnsEnv(tictactoe_v3.env())


@pytest.fixture(autouse=True)
def _workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3])


@pytest.fixture
def opened() -> Iterator[list[AsyncSlots]]:
    slots: list[AsyncSlots] = []
    yield slots
    for s in slots:
        s.close()


def actions(count: int) -> list[NDArray[Any]]:
    """Legal actions of the groups walker and caller."""
    return [np.full((count, 2, 2), 2.0, np.float32), np.full((count, 1), 11)]


def worker_pids() -> set[int]:
    return {p.pid for p in psutil.Process().children()}


def random_actions(slots: Slots, spaces: EnvironmentSpaces, rng: np.random.Generator) -> list[NDArray[Any]]:
    drawn = []
    for group, masks in zip(spaces.groups, slots.arrays.mask, strict=True):
        where = [(s, n) for s in range(slots.count) for n in range(len(group))]
        legal = [None if masks is None or not masks[at].any() else masks[at] for at in where]
        flat = np.stack([random_action(group.action, rng, mask) for mask in legal])
        drawn.append(flat.reshape(slots.count, len(group), *group.action.shape))
    return drawn


@pytest.mark.parametrize("make_env", [speaker_listener, dying_walker, zombies, turns])
def test_processes_and_one_process_give_equal_arrays(make_env: Callable[[], Any], opened: list[AsyncSlots]) -> None:
    spaces = read_spaces(make_env())
    one = SyncSlots(make_env, spaces, 3)
    several = build_slots(make_env, spaces, 3, "async")
    assert isinstance(several, AsyncSlots)
    opened.append(several)
    rng = np.random.default_rng(0)
    due, ended = [0, 1, 2], 0
    for step in range(60):
        if due:
            for slots in (one, several):
                assert slots.reset(due, [100 * step + s for s in due]) == []
        moving = [0, 2] if step % 7 == 0 else [2, 0, 1]
        given = random_actions(one, spaces, rng)
        for slots in (one, several):
            assert slots.step(moving, given) == []
        for name in ("observation", "mask", "forced"):
            for expected, got in zip(getattr(one.arrays, name), getattr(several.arrays, name), strict=True):
                np.testing.assert_array_equal(got, expected)
        for name in ("reward", "terminated", "truncated", "present", "living"):
            np.testing.assert_array_equal(getattr(several.arrays, name), getattr(one.arrays, name))
        due = np.flatnonzero(~one.arrays.living.any(axis=1)).tolist()
        ended += len(due)
    assert ended >= 3, "no episode ended: the test steps too little"
    one.close()


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (kill_itself, "worker 1 (slots 2-3) ended with signal 9"),
        (lambda: time.sleep(600), "worker 1 (slots 2-3) gave no answer for 2 s"),
    ],
    ids=["killed", "hangs"],
)
def test_a_lost_worker_is_named_and_replaced_and_the_others_go_on(
    act: Callable[[], object], says: str, opened: list[AsyncSlots]
) -> None:
    slots = AsyncSlots(lambda: FragileEnv(act), SPACES, 4, workers=2)
    opened.append(slots)
    before = worker_pids()
    assert slots.reset(range(4), [1, 2, 3, 13]) == []
    assert slots.step(range(4), actions(4)) == []
    slots.begin_step([0, 1, 3], actions(4))
    (fault,) = slots.end_step(timeout_s=2.0)
    assert (fault.slot, fault.message) == (3, says)
    assert slots.arrays.observation[0][0].tolist() == [[1, 2, 0], [1, 2, 2]]
    assert not slots.arrays.observation[0][3].any() and not slots.arrays.living[3].any()
    assert slots.arrays.observation[0][2].tolist() == [[3, 1, 0], [3, 1, 2]], "was not in work, so it shows what it did"
    (fault,) = slots.step([0, 2], actions(4))
    assert (fault.slot, fault.message) == (2, says), "its episode went with the worker"
    assert slots.reset([2, 3], [5, 6]) == []
    assert slots.step(range(4), actions(4)) == []
    assert slots.arrays.observation[1][:, 0, :2].tolist() == [[1, 4], [2, 3], [5, 1], [6, 1]]
    assert len(worker_pids() & before) == len(before) - 1 and len(worker_pids()) == len(before)


def test_an_environment_that_raises_leaves_its_worker_alive(opened: list[AsyncSlots]) -> None:
    slots = AsyncSlots(lambda: counter(raise_at=2, raise_every=2), SPACES, 3, workers=2)
    opened.append(slots)
    before = worker_pids()
    slots.reset(range(3), [1, 2, 4])
    slots.step(range(3), actions(3))
    faults = slots.step(range(3), actions(3))
    assert [(f.slot, f.message) for f in faults] == [
        (1, "RuntimeError: broken in step 2"),
        (2, "RuntimeError: broken in step 2"),
    ]
    assert slots.reset([1, 2], [3, 5]) == [] and worker_pids() == before


def test_what_cannot_be_built_is_a_fault_and_what_cannot_be_sent_an_error(opened: list[AsyncSlots]) -> None:
    class Unloadable:
        def __call__(self) -> CounterEnv:
            return CounterEnv()

        def __reduce__(self) -> Any:
            return os.stat, ("/no/such/file",)

    def fails() -> CounterEnv:
        raise OSError("no such map")

    slots = AsyncSlots([fails, CounterEnv, Unloadable()], SPACES, 3, workers=3)
    opened.append(slots)
    first, third = slots.reset(range(3), [1, 2, 3])
    assert (first.slot, first.message) == (0, "OSError: no such map")
    assert third.slot == 2 and "cannot be loaded in a worker process: FileNotFoundError" in third.message
    lock = threading.Lock()
    with pytest.raises(EnvironmentLoadError, match="cannot be sent to a worker process: TypeError: cannot pickle"):
        AsyncSlots(lambda: (lock, CounterEnv())[1], SPACES, 2)


def test_agents_that_wait_unexpectedly_are_an_error_as_in_one_process(opened: list[AsyncSlots]) -> None:
    slots = AsyncSlots(lambda: counter(blind_at=1), SPACES, 2)
    opened.append(slots)
    slots.reset([0, 1], [1, 2])
    with pytest.raises(EnvironmentLoadError, match="'caller_0' got no observation"):
        slots.step([0, 1], actions(2))


def test_an_answer_that_nobody_waited_for_is_void(opened: list[AsyncSlots]) -> None:
    slots = AsyncSlots(lambda: counter(raise_at=1), SPACES, 2)
    opened.append(slots)
    slots.reset([0, 1], [1, 2])
    slots.begin_step([0, 1], actions(2))
    assert slots.reset([0, 1], [3, 4]) == []
    assert slots.arrays.observation[1][:, 0, :2].tolist() == [[3, 0], [4, 0]]


def test_workers_use_one_thread_and_leave_interrupts_to_their_parent(opened: list[AsyncSlots]) -> None:
    slots = AsyncSlots(CounterEnv, SPACES, 2, workers=2)
    opened.append(slots)

    def look(env: Any, name: str) -> tuple[str, bool, int]:
        return os.environ[name], signal.getsignal(signal.SIGINT) == signal.SIG_IGN, env.length

    assert slots.apply([1, 0], look, [("OMP_NUM_THREADS",), ("OPENBLAS_NUM_THREADS",)]) == [("1", True, 5)] * 2
    for pid in worker_pids():
        os.kill(pid, signal.SIGINT)
    assert slots.reset([0, 1], [1, 2]) == []


def test_nothing_is_left_after_close_or_garbage_collection() -> None:
    gc.collect()
    pids, files = worker_pids(), len(os.listdir("/proc/self/fd"))
    slots = AsyncSlots(CounterEnv, SPACES, 4, workers=2)
    slots.reset(range(4), range(4))
    assert len(worker_pids()) == len(pids) + 2
    slots.close()
    slots.close()
    assert worker_pids() == pids and slots.arrays.living.all()
    with pytest.raises(EnvironmentLoadError, match="were closed"):
        slots.reset([0], [1])
    AsyncSlots(CounterEnv, SPACES, 2).reset([0], [0])
    del slots
    gc.collect()
    assert worker_pids() == pids and len(os.listdir("/proc/self/fd")) == files


SCRIPT = """
import sys
import psutil
from mpe2 import simple_speaker_listener_v4
from covey.envs import read_spaces
from covey.envs.processes import AsyncSlots

class Wrapped:
    def __new__(cls):
        return simple_speaker_listener_v4.parallel_env()

slots = AsyncSlots([lambda: simple_speaker_listener_v4.parallel_env(), Wrapped], read_spaces(Wrapped()), 2, workers=2)
print(slots.reset([0, 1], [0, 1]), *[p.pid for p in psutil.Process().children()], flush=True)
"""


@pytest.mark.parametrize("how", ["file", "command"])
def test_a_script_needs_no_main_guard_and_leaves_no_process(how: str, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    arguments = [str(file)] if how == "file" else ["-c", SCRIPT]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    faults, *pids = done.stdout.split()
    assert faults == "[]" and len(pids) == 2
    assert not any(psutil.pid_exists(int(p)) for p in pids)


def test_workers_end_when_their_parent_is_killed_even_one_that_hangs() -> None:
    hang = """
import time
slots.apply([0], lambda env: time.sleep(600), [()])
"""
    with started([sys.executable, "-c", SCRIPT + hang], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = [int(p) for p in parent.stdout.readline().split()[1:]]
        workers = [psutil.Process(p) for p in pids]
        assert len(workers) == 2
        parent.kill()
        parent.wait()
        gone, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
        assert not alive and len(gone) == 2
