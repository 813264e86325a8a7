"""Schedulers of small populations, and actors that answer their orders."""

from __future__ import annotations

from collections import Counter

from covey.v1.order_pb2 import Exploration, Order, PolicyRef
from covey_server.orders.scheduler import Rules, Scheduler

AGENTS = 2


def make_scheduler(
    members: int = 4, quota: int = 100, max_orders: int = 2, random_steps: int = 0, turn_steps: int = 50
) -> Scheduler:
    """A scheduler that has begun a generation in which every member gets `quota` steps."""
    scheduler = Scheduler(
        Rules(seed=1, fragment_steps=32, turn_steps=turn_steps, random_steps=random_steps, max_orders=max_orders),
        lambda m: [PolicyRef(sha256=bytes([m, a]) * 16, member_id=m) for a in range(AGENTS)],
        lambda m: Exploration(),
    )
    scheduler.begin_generation(0, dict.fromkeys(range(members), quota))
    return scheduler


def play(order: Order, scheduler: Scheduler, share: float = 1.0) -> None:
    """Answer an order with a share of its steps, and all its evaluation seeds."""
    steps: Counter[int] = Counter()
    for slot in order.slots:
        steps[slot.member_id] += int(slot.steps * share)
    scheduler.complete(order.order_id, steps)
