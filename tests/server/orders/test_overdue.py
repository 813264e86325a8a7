"""When an order is overdue."""

from __future__ import annotations

import pytest

from covey.v1.order_pb2 import Order, SlotWork
from covey_server.orders.overdue import MARGIN, OrderWatch

HEARTBEAT_S, STEP_TIMEOUT_S = 5.0, 60.0
A, B = ("a", 1), ("b", 1)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def order(order_id: int, steps: int = 32) -> Order:
    return Order(order_id=order_id, slots=[SlotWork(slot=0, steps=steps), SlotWork(slot=1, steps=1)])


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def watch(time: Time) -> OrderWatch:
    return OrderWatch(HEARTBEAT_S, STEP_TIMEOUT_S, time)


def answers(watch: OrderWatch, time: Time, seconds: float, count: int = 3) -> None:
    """Actor A answers orders, each within these seconds."""
    for order_id in range(1, count + 1):
        assert watch.check({A: order(order_id)}) == {}
        time.now += seconds
    assert watch.check({A: None}) == {}


def test_before_anybody_has_answered_the_environments_own_limit_counts(watch: OrderWatch, time: Time) -> None:
    watch.check({A: order(1)})
    time.now += 32 * STEP_TIMEOUT_S
    assert watch.check({A: order(1)}) == {}
    time.now += 1
    assert watch.check({A: order(1)}) == {A: 32 * STEP_TIMEOUT_S}


def test_what_an_actor_took_before_is_the_measure(watch: OrderWatch, time: Time) -> None:
    answers(watch, time, 4.0)
    watch.check({A: order(9)})
    time.now += MARGIN * 4.0 - 1
    assert watch.check({A: order(9)}) == {}
    time.now += 2
    assert list(watch.check({A: order(9)})) == [A]


def test_a_quick_actor_has_two_heartbeats_at_least(watch: OrderWatch, time: Time) -> None:
    answers(watch, time, 0.01)
    watch.check({A: order(9)})
    time.now += 2 * HEARTBEAT_S
    assert watch.check({A: order(9)}) == {}
    time.now += 0.1
    assert watch.check({A: order(9)}) == {A: 2 * HEARTBEAT_S}


@pytest.mark.parametrize(("took_s", "limit_s"), [(0.5, 2 * HEARTBEAT_S), (20.0, MARGIN * 20.0)])
def test_an_actor_that_never_answered_is_measured_by_others(
    watch: OrderWatch, time: Time, took_s: float, limit_s: float
) -> None:
    answers(watch, time, took_s)
    watch.check({A: None, B: order(9)})
    time.now += limit_s
    assert watch.check({A: None, B: order(9)}) == {}
    time.now += 1
    assert list(watch.check({A: None, B: order(9)})) == [B]


def test_every_order_begins_anew_and_so_does_all_after_a_pause_of_the_learner(watch: OrderWatch, time: Time) -> None:
    answers(watch, time, 0.01)
    for order_id in range(20, 40):
        watch.check({A: order(order_id)})
        time.now += 2 * HEARTBEAT_S - 1
        assert watch.check({A: order(order_id)}) == {}
    watch.forgive()
    time.now += 2 * HEARTBEAT_S - 1
    assert watch.check({A: order(39)}) == {}
