"""How many actor processes `covey train` keeps on its own machine, chosen from measured waits while a run goes on.

Over every generation, as training and evaluation make different demands, three things are measured:

    rate    = env steps a second, of training and of evaluations
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
"""Least seconds that are measured at a time: as many whole generations as it takes."""

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

LONGEST_REST = 64
"""Most generations between two trials: their number doubles with every trial that brings nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Running sums of a run at one moment.

    Attributes:
        clock_s: Monotonic seconds.
        generation: Number of the generation.
        env_steps: Env steps of all members, in training and in evaluations.
        learner_wait_s: Seconds that the learner has waited for env steps.
        core_s: Core-seconds that actors of this machine have been at work, summed over them.
        actor_s: Seconds that these actors have been at work, summed over them: less than `core_s` where each
            environment has a process of its own.
        running: Local actor processes that run.
        joined: Actors that have joined the run, wherever they are.
    """

    clock_s: float
    generation: int
    env_steps: int
    learner_wait_s: float
    core_s: float
    actor_s: float
    running: int
    joined: int


def first_count(config: Config) -> int:
    """How many actor processes a run starts with on this machine."""
    return config.actors.local or min(2, usable_cores())


class LocalCount:
    """Chooses the number of local actor processes.

    While other actors have joined too, or some are missing, the number stays as it is: nothing is compared then.

    Args:
        cores: CPU cores of this machine; there are never more processes.
        tell: Called with a sentence whenever the number changes.
    """

    def __init__(self, cores: int, tell: Callable[[str], None]) -> None:
        self._most, self._cores, self._tell = cores, cores, tell
        self._generation: int | None = None  # as of the last look
        self._began: Measured | None = None  # where a generation began that is measured
        self._trial: tuple[int, int, float] | None = None  # the number on trial, and number and rate before it
        self._rest = self._next_rest = 1  # generations until something is tried

    def interrupted(self) -> None:
        """Forget what was measured since the generation began: the run pauses."""
        self._began = None

    def look(self, now: Measured) -> int:
        """Take a look at the run, about once a second; returns how many processes there should be from now on."""
        count = now.running
        begins, self._generation = now.generation != self._generation, now.generation
        if self._trial is not None and count != self._trial[0]:
            # One on trial has ended by itself: more than are left are not tried again.
            self._most, self._trial = max(1, min(self._most, count)), None
        if now.joined != count or (self._began is not None and self._began.running != count):
            self._began = None
            return count
        if not begins:
            return count
        if self._began is None:
            self._began = now
        before, took_s = self._began, now.clock_s - self._began.clock_s
        if took_s < WINDOW_S or now.env_steps == before.env_steps:
            return count
        self._began = now
        rate = (now.env_steps - before.env_steps) / took_s
        if self._trial is not None:
            return self._judged(rate)
        if self._rest > 0:
            self._rest -= 1
            return count
        waited = (now.learner_wait_s - before.learner_wait_s) / took_s
        idle = self._cores - (now.core_s - before.core_s) / took_s - (1 - waited)
        at_work = (now.actor_s - before.actor_s) / took_s
        if count < self._most and waited >= WAITED and at_work >= FULL * count and idle >= IDLE:
            self._trial = count + 1, count, rate
            return self._changed(count + 1, count, f"the learner waits {waited:.0%} of the time, and a core is idle")
        if count > 1 and at_work <= NEEDLESS * (count - 1):
            self._trial = count - 1, count, rate
            return self._changed(count - 1, count, f"those that there are work {at_work / count:.0%} of the time")
        return count

    def _judged(self, rate: float) -> int:
        """Keep the number that was tried, or go back to the one before; returns it."""
        assert self._trial is not None
        (tried, count, before), self._trial = self._trial, None
        self._rest = self._next_rest
        if rate >= before * (GAIN if tried > count else LOSS):
            self._next_rest = 1
            return tried
        self._next_rest = min(2 * self._next_rest, LONGEST_REST)
        return self._changed(count, tried, f"{rate:,.0f} env steps/s instead of {before:,.0f}")

    def _changed(self, count: int, before: int, why: str) -> int:
        """Say why there is another number from now on, and return it."""
        self._tell(f"local actors: {count}, before {before}: {why}")
        return count
