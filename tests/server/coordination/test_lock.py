"""The lock knows who holds it; what must be called under it says so otherwise."""

from __future__ import annotations

import threading

import pytest

from covey_server.coordination.lock import StateLock, under_lock


class Counter:
    def __init__(self) -> None:
        self.lock = StateLock()
        self.count = 0

    @under_lock
    def add(self, number: int) -> int:
        self.count += number
        return self.count


def test_under_the_lock() -> None:
    counter = Counter()
    with counter.lock:
        assert counter.lock.held and counter.add(2) == 2
        with counter.lock.changed:  # it is the same lock
            assert counter.add(1) == 3
        assert counter.lock.held
    assert not counter.lock.held


def test_without_the_lock() -> None:
    counter = Counter()
    with pytest.raises(AssertionError, match=r"Counter\.add was called without the learner's lock"):
        counter.add(1)
    assert counter.count == 0


def test_another_thread_holds_it() -> None:
    counter = Counter()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with counter.lock:
            entered.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(30)
    assert not counter.lock.held
    with pytest.raises(AssertionError):
        counter.add(1)
    leave.set()
    holder.join()
