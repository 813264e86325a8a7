"""`covey watch` in a terminal: a picture of the run, and keys that steer it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import ENVIRONMENT, covey_json, end, until, write_config


class Screen:
    """A terminal of 80 columns and 24 lines with a command in it."""

    def __init__(self, *command: str) -> None:
        self._main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {k: v for k, v in ENVIRONMENT.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True
        )
        os.close(other)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def read(self) -> str:
        """Everything that was written to it so far."""
        while select.select([self._main], [], [], 0.05)[0]:
            try:
                data = os.read(self._main, 1 << 16)
            except OSError:  # the command has ended
                break
            self.shown += data.decode(errors="replace")
        return self.shown

    def close(self) -> None:
        end(self.process)
        os.close(self._main)


def read_until(screen: Screen, condition: Callable[[], bool]) -> None:
    until(lambda: screen.read() is not None and condition(), what=f"what is awaited\n{screen.shown[-3000:]}")


@contextmanager
def training(folder: Path, **settings: int) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`covey train` at work, and its run's directory once its learner listens."""
    job, runs = write_config(folder / "job.yaml", training=settings), folder / "runs"
    command = [sys.executable, "-m", "covey", "train", str(job), "--runs", str(runs), "--json"]
    train = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        until(lambda: list(runs.glob("*/address.json")), what="a learner")
        (run,) = runs.iterdir()
        yield train, run
    finally:
        end(train)


@contextmanager
def watching(run: Path) -> Iterator[Screen]:
    """`covey watch` in a terminal."""
    screen = Screen(sys.executable, "-m", "covey", "watch", str(run), "--interval", "0.3")
    try:
        yield screen
    finally:
        screen.close()


def test_a_run_is_watched_paused_and_left_alone(tmp_path: Path) -> None:
    with training(tmp_path, max_steps=500_000, evo_steps=1000) as (train, run):
        until(lambda: covey_json("status", run, "--json")["best_fitness"] is not None, what="a generation")
        with watching(run) as screen:
            read_until(screen, lambda: "env steps/s" in screen.shown and "best fitness" in screen.shown)
            assert run.name in screen.shown and "local-0 on " in screen.shown and "differs in" in screen.shown
            screen.type("p")
            read_until(screen, lambda: covey_json("status", run, "--json")["state"] == "paused")
            screen.type("c")
            read_until(screen, lambda: "checkpoint written" in screen.shown)
            screen.type("p")
            read_until(screen, lambda: covey_json("status", run, "--json")["state"] == "training")
            screen.type("q")
            read_until(screen, lambda: screen.process.poll() is not None)
            assert screen.process.returncode == 0
        assert train.poll() is None and covey_json("status", run, "--json")["state"] == "training"


def test_it_ends_with_the_run_and_leaves_what_came_of_it(tmp_path: Path) -> None:
    with training(tmp_path, max_steps=4000, evo_steps=2000) as (train, run):
        with watching(run) as screen:
            read_until(screen, lambda: screen.process.poll() is not None)
            assert screen.process.returncode == 0, screen.read()
            assert "complete, generation 1" in screen.read()
        assert train.wait(timeout=60) == 0
