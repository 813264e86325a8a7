"""How many actor processes `covey train` keeps on its own machine, chosen from measured waits while a run goes on.

Over every window of some seconds three things are measured:

    rate    = env steps a second
    waited  = part of the time in which the learner had nothing to learn from
    at_work = actor processes of this machine that had an order, on average

One process more is tried where the learner waits, the processes that are there work nearly all the time, and a core is
idle; it is kept if the rate rises. One less is tried where the work of all would fit into fewer processes, as it does
where env steps cost next to nothing; it stays away unless the rate falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from covey.config import Config
from covey.resources import usable_cores

WINDOW_S = 10.0
"""Least seconds that are measured at a time."""

WAITED = 0.2
"""Part of the time that the learner must wait for one more process to be tried."""

FULL = 0.6
"""Part of the time that processes must be at work for one more to be tried."""

IDLE = 0.5
"""Part of a core that must be idle for one more process to be tried."""

NEEDLESS = 0.5
"""One process less is tried where those that would stay would be at work for at most this part of the time."""

GAIN = 1.05
"""A process more is kept where the rate is at least so many times what it was."""

LOSS = 0.95
"""A process less is kept where the rate is at least so many times what it was."""

FIRST_REST, LONGEST_REST = 1, 64
"""Windows between two trials: their number doubles with every trial that brings nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Running sums of a run at one moment.

    Attributes:
        clock_s: Monotonic seconds.
        env_steps: Env steps of all members.
        learner_wait_s: Seconds that the learner has waited for env steps.
        core_s: Seconds that actor processes of this machine have been at work, summed over them.
    """

    clock_s: float
    env_steps: int
    learner_wait_s: float
    core_s: float


def first_count(config: Config) -> int:
    """How many actor processes a run starts with on this machine."""
    return config.actors.local or min(2, usable_cores())


class LocalCount:
    """Chooses the number of local actor processes.

    Args:
        first: How many there are at first.
        cores: CPU cores of this machine; there are never more processes.
        tell: Called with a sentence whenever the number changes.

    Attributes:
        count: How many there should be.
    """

    def __init__(self, first: int, cores: int, tell: Callable[[str], None]) -> None:
        self.count = first
        self._cores, self._tell = cores, tell
        self._began: Measured | None = None
        self._joining = False  # a window in which the number has just changed is not counted
        self._trial: tuple[int, float] | None = None  # the number and the rate before what is tried now
        self._rest = self._next_rest = FIRST_REST

    def look(self, now: Measured) -> int:
        """Take a look at the run, about once a second; returns how many processes there should be from now on."""
        if self._began is None:
            self._began = now
        took_s = now.clock_s - self._began.clock_s
        if took_s < WINDOW_S or now.env_steps == self._began.env_steps:
            return self.count
        before, self._began = self._began, now
        if self._joining:
            self._joining = False
            return self.count
        rate = (now.env_steps - before.env_steps) / took_s
        waited = (now.learner_wait_s - before.learner_wait_s) / took_s
        at_work = (now.core_s - before.core_s) / took_s
        if self._trial is not None:
            self._judge(rate)
        elif self._rest > 0:
            self._rest -= 1
        else:
            self._try(rate, waited, at_work)
        return self.count

    def _try(self, rate: float, waited: float, at_work: float) -> None:
        """Try one process more or less, if what was measured speaks for it."""
        idle = self._cores - at_work - (1 - waited)
        if self.count < self._cores and waited >= WAITED and at_work >= FULL * self.count and idle >= IDLE:
            self._trial = self.count, rate
            self._change(self.count + 1, f"the learner waits {waited:.0%} of the time, and a core is idle")
        elif self.count > 1 and at_work <= NEEDLESS * (self.count - 1):
            self._trial = self.count, rate
            self._change(self.count - 1, f"those that there are work {at_work / self.count:.0%} of the time")

    def _judge(self, rate: float) -> None:
        """Keep the number that was tried, or go back to the one before."""
        assert self._trial is not None
        (count, before), self._trial = self._trial, None
        self._rest = self._next_rest
        if rate >= before * (GAIN if self.count > count else LOSS):
            self._next_rest = FIRST_REST
            return
        self._next_rest = min(2 * self._next_rest, LONGEST_REST)
        self._change(count, f"{rate:,.0f} env steps/s instead of {before:,.0f}")

    def _change(self, count: int, why: str) -> None:
        """Ask for another number of processes, and say why."""
        self._tell(f"local actors: {count}, before {self.count}: {why}")
        self.count, self._joining = count, True
