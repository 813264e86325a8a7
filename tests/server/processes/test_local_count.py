"""How many local actors a run keeps: one more where the learner waits for them, one less where it is needless."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from covey.config import parse_config
from covey_server.processes import local_count
from covey_server.processes.local_count import WINDOW_S, LocalCount, Measured, first_count


class Run:
    """A run whose rate and waits follow from the number of its actors, looked at once a second.

    Args:
        cores: Of the machine.
        first: Actors at first.
        rate: Env steps a second by number of actors.
        waited: Part of the time that the learner waits, likewise.
        at_work: Part of the time that one actor has an order, likewise.
    """

    def __init__(
        self,
        cores: int,
        first: int,
        rate: Callable[[int], float],
        waited: Callable[[int], float],
        at_work: Callable[[int], float],
    ) -> None:
        self.told: list[str] = []
        self.count = LocalCount(first, cores, self.told.append)
        self.of = rate, waited, at_work
        self.now = Measured(0.0, 0, 0.0, 0.0)

    def goes_on(self, windows: float) -> list[int]:
        """Let time pass; returns the different numbers of actors, in order."""
        seen = [self.count.count]
        rate, waited, at_work = self.of
        for _ in range(round(windows * (WINDOW_S + 1))):
            n = self.count.count
            self.now = Measured(
                self.now.clock_s + 1,
                self.now.env_steps + round(rate(n)),
                self.now.learner_wait_s + waited(n),
                self.now.core_s + n * at_work(n),
            )
            n = self.count.look(self.now)
            seen += [n] * (n != seen[-1])
        return seen


def test_actors_are_added_while_the_learner_waits_and_the_rate_rises() -> None:
    # Env steps are dear: the learner waits for them a fifth of the time and more with less than five.
    run = Run(16, 2, lambda n: 100.0 * min(n, 6), lambda n: max(0.0, 1 - n / 6), lambda n: min(1.0, 6 / n))
    assert run.goes_on(40) == [2, 3, 4, 5]
    assert run.told[0] == "local actors: 3, before 2: the learner waits 67% of the time, and a core is idle"


def test_what_brings_nothing_is_taken_back_and_tried_ever_more_rarely() -> None:
    run = Run(8, 2, lambda n: 100.0, lambda n: 0.5, lambda n: 1.0)
    assert run.goes_on(8) == [2, 3, 2, 3]
    assert run.told[1] == "local actors: 2, before 3: 100 env steps/s instead of 100"
    assert len(run.goes_on(100)) < 14


def test_no_core_is_taken_that_is_not_idle() -> None:
    assert Run(2, 2, lambda n: 100.0 * n, lambda n: 0.9, lambda n: 1.0).goes_on(50) == [2]
    # Three cores, of which the learner keeps one busy most of the time.
    assert Run(3, 2, lambda n: 100.0 * n, lambda n: 0.3, lambda n: 1.0).goes_on(50) == [2]


def test_needless_actors_leave() -> None:
    # Cheap env steps: two actors are at work for a tenth of the time each.
    assert Run(4, 2, lambda n: 9000.0, lambda n: 0.1, lambda n: 0.2 / n).goes_on(50) == [2, 1]


def test_an_actor_that_was_needed_comes_back() -> None:
    run = Run(4, 2, lambda n: 50.0 * n, lambda n: 0.1, lambda n: 0.2)
    assert run.goes_on(4) == [2, 1, 2]
    assert run.told[-1] == "local actors: 2, before 1: 50 env steps/s instead of 100"


def test_time_without_env_steps_is_no_measure() -> None:
    # As in a long update, or while all actors evaluate.
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
