"""How many threads compute an update: those that measured waits and measured seconds say, chosen while a run goes on.

A thread more helps only on a core that is idle: beside an actor at work it waits for its turn, and all other threads of
the update wait for it. So two things are measured around every update:

    busy  = cores that actors of this machine kept busy during updates, on average over the last seconds
    ratio = (seconds of an update with another number of threads) / (seconds of the one before, with the present number)

Cores less `busy` bound the number of threads. Within the bound the number that is twice or half as large is tried now
and then, in a few updates, and kept where the median of the ratios is below WORTH.

With one on-policy member, actors have no orders while it learns: `busy` is 0, and an update may use all cores. Where
two members take turns, and two actors on two cores work for a tenth of the time, 1.8 cores are left: two threads are
tried. Where both work all the time nothing is left, and an update has one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from covey.config import Config
from covey.errors import ConfigError
from covey.resources import usable_cores
from covey_server.orders.at_work import ActorsAtWork

TRIALS = 3
"""Fewest updates in which another number of threads is tried."""

TRIAL_S = 0.3
"""Fewest seconds that these updates take together: short ones are many, as what else the machine does disturbs each."""

WORTH = 0.95
"""Another number of threads is kept if an update with it takes at most this part of the seconds."""

AVERAGE_S = 1.0
"""Seconds of updates over which the actors' work is averaged."""

TRIED = 0.4
"""Part of a core that must be idle during updates for one more thread to be tried there."""

KEPT = 0.25
"""Part of a core that must be idle for a thread to stay. It is less than TRIED, so that the number does not swing."""

FIRST_REST = 2
"""Updates before another number is tried for the first time: the first ones do what is done once."""

LONGEST_REST = 1024
"""Most updates between two trials; their number doubles with every trial."""


def check_threads(config: Config) -> None:
    """Refuse, with a ConfigError, more threads than this machine has cores: each update would be slower."""
    threads, cores = config.learner.torch_threads, usable_cores()
    if threads is not None and threads > cores:
        raise ConfigError(
            f"learner.torch_threads {threads}, expected at most {cores}, the CPU cores that this process may use; give "
            "a number up to that, or null, with which it is chosen while the run goes on"
        )


class UpdateThreads:
    """Sets the number of threads with which torch computes each update; for the thread that makes updates.

    Args:
        fixed: The number of all updates; None: chosen from what is measured.
        most: Most threads: the machine's cores, or what the user allows.
        cores: CPU cores of the machine.
        at_work: How long actors of this machine have been at work.
        tell: Called with a sentence whenever the number changes.
        clock: Returns monotonic seconds.

    Attributes:
        threads: The number in use, but for updates in which another one is tried.
    """

    def __init__(
        self,
        fixed: int | None,
        most: int,
        cores: int,
        at_work: ActorsAtWork,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._most = fixed or most
        self._fixed = fixed is not None or most == 1
        self._cores = cores
        self._at_work, self._tell, self._clock = at_work, tell, clock
        self.threads = fixed or 1
        self._set = 0  # what torch was told last, in the thread that makes updates
        self._busy = float(cores)  # before anything is measured, actors count as at work
        self._measured_s = 0.0  # seconds of updates of which `_busy` is the mean, at most AVERAGE_S
        self._began = (0.0, 0.0)
        self._rest = self._next_rest = FIRST_REST  # updates until another number is tried
        self._upwards = True
        self._tried: int | None = None  # the number that is on trial
        self._ratios: list[float] = []
        self._tried_s = 0.0  # seconds of the updates of the trial
        self._before: dict[int, float] = {}  # seconds of the last update with the present number, by members
        self._on_trial = False

    @classmethod
    def of(cls, config: Config, at_work: ActorsAtWork, tell: Callable[[str], None]) -> UpdateThreads:
        """The threads that a run's configuration asks for, on this machine.

        Deterministic runs have `learner.torch_threads`, or one: with another number, results differ by rounding. Off
        the CPU there is one thread too, as there is nothing for more.
        """
        chosen = config.training.deterministic or torch.device(config.learner.device).type != "cpu"
        fixed = config.learner.torch_threads or (1 if chosen else None)
        cores = usable_cores()
        return cls(fixed, min(cores, torch.get_num_threads()), cores, at_work, tell)

    def begin(self, members: int) -> None:
        """Choose the threads of the update that begins now, and tell torch.

        Args:
            members: Number of members that it updates: only updates of as many are compared.
        """
        self._on_trial = not self._fixed and self._rest <= 0 and members in self._before and self._choose()
        count = self._tried if self._on_trial and self._tried else self.threads
        if count != self._set:
            torch.set_num_threads(count)
            self._set = count
        self._began = self._clock(), self._at_work.core_s

    def end(self, members: int) -> None:
        """Measure the update that has ended, and change the number of threads where that is worth it."""
        took_s = self._clock() - self._began[0]
        if self._fixed or took_s <= 0:
            return
        busy = (self._at_work.core_s - self._began[1]) / took_s
        self._measured_s = min(AVERAGE_S, self._measured_s + took_s)
        self._busy += (busy - self._busy) * min(1.0, took_s / self._measured_s)
        if self._on_trial:
            self._ratios.append(took_s / self._before.pop(members))
            self._tried_s += took_s
            if len(self._ratios) >= TRIALS and self._tried_s >= TRIAL_S:
                self._judge()
        else:
            self._before[members] = took_s
            self._rest -= 1
        if self.threads > (left := self._left(KEPT)):
            self._change(left, f"actors keep {self._busy:.1f} of this machine's {self._cores} cores busy meanwhile")

    def _left(self, part: float) -> int:
        """Cores that actors leave to an update, where this part of an idle core counts as a whole one."""
        return max(1, min(self._most, int(self._cores - self._busy + 1 - part)))

    def _choose(self) -> bool:
        """Choose the number of threads to try; returns whether there is one, for which enough cores are idle."""
        left = self._left(TRIED)
        if self._tried is None or self._tried > left:
            more, fewer = min(2 * self.threads, left), max(1, self.threads // 2)
            first, second = (more, fewer) if self._upwards else (fewer, more)
            self._ratios.clear()
            self._tried_s = 0.0
            self._tried = next((count for count in (first, second) if count != self.threads), None)
        return self._tried is not None

    def _judge(self) -> None:
        """Keep the number of threads that was tried, if it is worth it, and let updates rest from trials."""
        ratio = median(self._ratios)
        if self._tried is not None and ratio <= WORTH:
            self._change(self._tried, f"it takes {1 - ratio:.0%} less time")
        else:
            self._upwards = not self._upwards
            self._begin_rest()

    def _change(self, threads: int, why: str) -> None:
        """Use another number of threads from now on, and say why."""
        self._tell(f"threads of an update: {threads}, before {self.threads}: {why}")
        self.threads = threads
        self._begin_rest()

    def _begin_rest(self) -> None:
        """Forget what was measured beside another number, and double the number of updates until the next trial."""
        self._tried = None
        self._before.clear()
        self._ratios.clear()
        self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, LONGEST_REST)
