"""How many local actors a run keeps: one more where the learner waits for them, one less where it is needless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from covey.config import parse_config
from covey_server.processes import local_count
from covey_server.processes.local_count import LocalCount, Measured, first_count

GENERATION_S = 12


class Run:
    """A run whose rate and waits follow from the number of its actors, looked at once a second.

    Args:
        cores: Of the machine.
        first: Actors at first.
        rate: Env steps a second by number of actors.
        waited: Part of the time that the learner waits, likewise.
        at_work: Part of the time that one actor has an order, likewise.
        cores_each: Cores that an actor at work keeps busy.
        starts_s: Seconds until an actor that starts has joined.
    """

    def __init__(
        self,
        cores: int,
        first: int,
        rate: Callable[[int], float],
        waited: Callable[[int], float],
        at_work: Callable[[int], float],
        cores_each: int = 1,
        starts_s: int = 3,
    ) -> None:
        self.told: list[str] = []
        self.count = LocalCount(cores, self.told.append)
        self.of = rate, waited, at_work
        self.cores_each, self.starts_s = cores_each, starts_s
        self.running = first
        self.since = 0  # when the number changed
        self.others = 0  # actors that somebody else has started
        self.now = Measured(0.0, 0, 0, 0.0, 0.0, 0.0, first, first)

    def goes_on(self, generations: int, bursts: int = 1) -> list[int]:
        """Let time pass; returns the different numbers of actors, in order.

        Training makes `bursts` times as many env steps in the first half of a generation as in the second, on average
        as many as the run's rate says.
        """
        seen = [self.running]
        rate, waited, at_work = self.of
        for _ in range(generations * GENERATION_S):
            second = int(self.now.clock_s) + 1
            n = self.running
            share = (bursts if second % GENERATION_S < GENERATION_S / 2 else 1) * 2 / (bursts + 1)
            there = n if second - self.since > self.starts_s else min(n, seen[-2] if len(seen) > 1 else n)
            self.now = Measured(
                clock_s=float(second),
                generation=second // GENERATION_S,
                env_steps=self.now.env_steps + round(rate(n) * share),
                learner_wait_s=self.now.learner_wait_s + waited(n),
                core_s=self.now.core_s + n * at_work(n) * self.cores_each,
                actor_s=self.now.actor_s + n * at_work(n),
                running=n,
                joined=there + self.others,
            )
            wanted = self.count.look(self.now)
            if wanted != n:
                self.running, self.since = wanted, second
                seen.append(wanted)
        return seen


def test_actors_are_added_while_the_learner_waits_and_the_rate_rises() -> None:
    # Env steps are dear: the learner waits for them a fifth of the time and more with less than five.
    run = Run(16, 2, lambda n: 100.0 * min(n, 6), lambda n: max(0.0, 1 - n / 6), lambda n: min(1.0, 6 / n))
    assert run.goes_on(40) == [2, 3, 4, 5]
    assert run.told[0] == "local actors: 3, before 2: the learner waits 67% of the time, and a core is idle"


def test_what_brings_nothing_is_taken_back_and_tried_ever_more_rarely() -> None:
    run = Run(8, 2, lambda n: 100.0, lambda n: 0.5, lambda n: 1.0)
    assert run.goes_on(12) == [2, 3, 2, 3, 2]
    assert run.told[1] == "local actors: 2, before 3: 100 env steps/s instead of 100"
    assert len(run.goes_on(100)) < 14


def test_a_rate_that_changes_within_generations_is_no_gain() -> None:
    run = Run(8, 2, lambda n: 100.0, lambda n: 0.5, lambda n: 1.0)
    assert max(run.goes_on(60, bursts=5)) == 3


def test_an_actor_that_starts_slowly_is_judged_from_when_it_has_joined() -> None:
    run = Run(4, 2, lambda n: 100.0 * n, lambda n: 0.5, lambda n: 1.0, starts_s=50)
    assert run.goes_on(20)[:2] == [2, 3] and run.running >= 3


def test_no_core_is_taken_that_is_not_idle() -> None:
    assert Run(2, 2, lambda n: 100.0 * n, lambda n: 0.9, lambda n: 1.0).goes_on(50) == [2]
    # Three cores, of which the learner keeps one busy most of the time.
    assert Run(3, 2, lambda n: 100.0 * n, lambda n: 0.3, lambda n: 1.0).goes_on(50) == [2]
    # Each actor has worker processes, which are at work on four cores of eight.
    assert Run(8, 2, lambda n: 100.0 * n, lambda n: 0.9, lambda n: 1.0, cores_each=4).goes_on(50) == [2]


@pytest.mark.parametrize("cores_each", [1, 8])
def test_needless_actors_leave(cores_each: int) -> None:
    # Cheap env steps: two actors are at work for a tenth of the time each.
    run = Run(16, 2, lambda n: 9000.0, lambda n: 0.1, lambda n: 0.2 / n, cores_each=cores_each)
    assert run.goes_on(50) == [2, 1]
    assert "work 10% of the time" in run.told[0]


def test_an_actor_that_was_needed_comes_back() -> None:
    run = Run(4, 2, lambda n: 50.0 * n, lambda n: 0.1, lambda n: 0.2)
    assert run.goes_on(6) == [2, 1, 2]
    assert run.told[-1] == "local actors: 2, before 1: 50 env steps/s instead of 100"


def test_beside_actors_of_others_the_number_stays() -> None:
    run = Run(8, 2, lambda n: 100.0 * n, lambda n: 0.9, lambda n: 1.0)
    run.others = 1
    assert run.goes_on(50) == [2]


def test_the_last_actor_that_runs_stays_when_another_was_told_to_leave() -> None:
    run = Run(8, 2, lambda n: 100.0, lambda n: 0.1, lambda n: 0.4)
    run.running = 1  # somebody has drained the other one
    assert run.goes_on(30) == [1]


def test_one_on_trial_that_ends_by_itself_is_not_tried_again() -> None:
    run = Run(8, 2, lambda n: 100.0 * n, lambda n: 0.9, lambda n: 1.0)
    while run.goes_on(1)[-1] == 2:
        pass
    run.running = 2  # before it is judged
    assert run.goes_on(50) == [2]


def test_a_pause_is_not_measured() -> None:
    run = Run(8, 2, lambda n: 100.0, lambda n: 0.1, lambda n: 0.9)
    run.goes_on(2)
    run.count.interrupted()
    run.now = replace(run.now, clock_s=run.now.clock_s + 50 * GENERATION_S)  # nobody worked meanwhile
    assert run.goes_on(30) == [2]


def test_time_without_env_steps_is_no_measure() -> None:
    assert Run(4, 2, lambda n: 0.0, lambda n: 1.0, lambda n: 1.0).goes_on(20) == [2]


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (64, 2)])
def test_two_at_first_unless_there_is_a_single_core(monkeypatch: pytest.MonkeyPatch, cores: int, expected: int) -> None:
    monkeypatch.setattr(local_count, "usable_cores", lambda: cores)
    config = {
        "algorithm": {"name": "IPPO"},
        "environment": {"name": "covey.envs.mpe.simple_v3"},
        "training": {"max_steps": 100},
    }
    assert first_count(parse_config(config)) == expected
    assert first_count(parse_config(config | {"actors": {"local": 3}})) == 3
