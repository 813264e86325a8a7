"""Trains the runs of a sweep, several at a time, beside other processes that may share its directory."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from covey.errors import CoveyError
from covey.experiments.claims import Claim
from covey.experiments.grid import Combination
from covey.experiments.prepared import Prepared
from covey.experiments.run_process import RunProcess, State, is_evaluated, is_trained
from covey.experiments.sweep_directory import SweepDirectory

LOOK_S = 0.2
"""Seconds between two looks at the processes."""

ELSEWHERE_S = 5.0
"""Seconds between two looks at runs that other processes have claimed."""

END_S = 60.0
"""Seconds that processes have to write their checkpoints, where an error ends the sweep."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, what schedulers and service managers send, and what a terminal sends that is closed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that failed.

    Attributes:
        run: Its directory.
        exit_code: Of its process.
        words: The last thing that it said.
    """

    run: Path
    exit_code: int
    words: str


@dataclass(slots=True)
class Progress:
    """How a sweep stands, for whoever shows it.

    Attributes:
        states: By name of the run.
        running: The processes at work, by name of the run.
        failures: Runs that failed.
        signal: The first signal that asked to stop; None if there was none.
    """

    states: dict[str, State]
    running: dict[str, RunProcess] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    signal: int | None = None

    def count(self, state: State) -> int:
        """How many runs are in this state."""
        return sum(s is state for s in self.states.values())

    def of(self, state: State) -> list[str]:
        """Names of the runs in this state."""
        return [name for name, s in self.states.items() if s is state]


Show = Callable[[Progress], None]


class Sweeping:
    """Trains combinations: claims those that are not complete, and keeps a number of processes at work.

    Args:
        directory: The sweep's directory.
        prepared: Makes the runs' directories.
        jobs: How many runs are trained at a time.
        episodes: How many episodes evaluate each run.
        show: Called with the progress several times a second.
        tell: Called with a sentence about what has happened.

    Attributes:
        jobs: As given.
        progress: How the runs stand that `train` was given so far.
    """

    def __init__(
        self,
        directory: SweepDirectory,
        prepared: Prepared,
        jobs: int,
        episodes: int,
        show: Show,
        tell: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._prepared = prepared
        self.jobs = jobs
        self._episodes = episodes
        self._show = show
        self._tell = tell
        self.progress = Progress({})

    def train(self, chosen: Sequence[Combination]) -> Progress:
        """Train and evaluate the runs of these combinations; returns when none is left that this process could train.

        Runs that are complete stay as they are, those that were stopped or have failed go on, and those that another
        process trains are left to it, and looked at again while anything runs here.

        Raises:
            StorageError: the sweep's directory cannot be written.
        """
        progress = self.progress
        progress.states.update({c.name: self._found(c.name) for c in chosen})
        waiting = deque(c for c in chosen if progress.states[c.name] is not State.COMPLETE)
        elsewhere: list[Combination] = []
        look_again_s = time.monotonic() + ELSEWHERE_S
        try:
            while True:
                self._look()
                if time.monotonic() >= look_again_s:  # whoever trained these may have been ended meanwhile
                    waiting.extend(elsewhere)
                    elsewhere.clear()
                    look_again_s = time.monotonic() + ELSEWHERE_S
                while len(progress.running) < self.jobs and waiting and progress.signal is None:
                    combination = waiting.popleft()
                    if not self._begin(combination):
                        elsewhere.append(combination)
                self._show(progress)
                if not progress.running:
                    return progress
                time.sleep(LOOK_S)
        finally:
            self._end()

    def _found(self, name: str) -> State:
        """How a run stands that nobody here works on."""
        run = self._directory.run(name)
        return State.COMPLETE if is_trained(run) and is_evaluated(run, self._episodes) else State.WAITING

    def _begin(self, combination: Combination) -> bool:
        """Start the process of a run; returns False if another process has claimed it."""
        name = combination.name
        run = self._directory.run(name)
        claim = Claim.take(run)
        if claim is None:
            self.progress.states[name] = State.ELSEWHERE
            return False
        if self._found(name) is State.COMPLETE:  # another process has trained it since
            claim.release()
            self.progress.states[name] = State.COMPLETE
            return True
        try:
            self._prepared.make_run(run, combination)
            process = RunProcess(run, claim, self.jobs, self._episodes)
        except CoveyError as exc:
            claim.release()
            self.progress.states[name] = State.FAILED
            self.progress.failures.append(Failure(run, exc.exit_code, str(exc)))
            return True
        self.progress.running[name] = process
        self.progress.states[name] = process.state
        self._tell(f"{name}: {process.state.value}")
        if self.progress.signal is not None:  # it came while the process was started, and did not reach it
            process.stop(self.progress.signal)
        return True

    def _look(self) -> None:
        """Note which processes have ended."""
        progress = self.progress
        for name, process in list(progress.running.items()):
            done = process.poll()
            if progress.states[name] is not process.state:
                progress.states[name] = process.state
                self._tell(f"{name}: {process.state.value} after {process.seconds:.0f} s")
            if done:
                del progress.running[name]
                if process.state is State.FAILED:
                    progress.failures.append(Failure(process.path, process.exit_code, process.last_words()))

    def _end(self) -> None:
        """End what still runs, where an error ends the sweep: in order, and after some time at once."""
        running = self.progress.running.values()
        for process in running:
            process.stop(signal.SIGTERM)
        deadline_s = time.monotonic() + END_S
        while not all([process.poll() for process in running]) and time.monotonic() < deadline_s:
            time.sleep(LOOK_S)
        for process in running:
            process.kill()


@contextlib.contextmanager
def stopping(progress: Progress, tell: Callable[[str], None]) -> Iterator[None]:
    """While signals come that ask to end, hand them on to the runs: a first one stops them with checkpoints.

    A hangup is ignored where it was ignored before, as `nohup` has it.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if progress.signal is None:
            progress.signal = number
            tell("stopping all runs with checkpoints; a second signal (Ctrl-C) stops at once")
        for process in list(progress.running.values()):
            process.stop(number)

    handled = [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, handle) for s in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
