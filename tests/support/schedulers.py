"""Schedulers of small populations, their members' ledgers, and actors that answer their orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from covey.config import Hyperparameters
from covey.v1.order_pb2 import Exploration, Order, PolicyRef
from covey_server.member import Member
from covey_server.orders.ledger import MemberLedger
from covey_server.orders.pace import Pace, Rounds, UpdatesPerStep
from covey_server.orders.rules import Rules
from covey_server.orders.scheduler import Scheduler

AGENTS = 2


def make_scheduler(
    members: int = 4,
    quota: int = 100,
    max_orders: int = 2,
    random_steps: int = 0,
    turn_steps: int = 50,
    longest_steps: int = 32,
) -> Scheduler:
    """A scheduler that has begun a generation in which every member gets `quota` steps."""
    scheduler = Scheduler(
        Rules(
            seed=1,
            fragment_steps=32,
            longest_steps=longest_steps,
            turn_steps=turn_steps,
            random_steps=random_steps,
            max_orders=max_orders,
        ),
        lambda m: [PolicyRef(sha256=bytes([m, a]) * 16, member_id=m) for a in range(AGENTS)],
        lambda m: Exploration(),
    )
    scheduler.begin_generation(ledgers(dict.fromkeys(range(members), quota)))
    return scheduler


def begun(
    member_id: int, quota: int, round_steps: int | None = None, place: int | None = None, **fields: int
) -> MemberLedger:
    """The ledger of a member at the start of a generation.

    Args:
        member_id: Whose.
        quota: Env steps of the generation.
        round_steps: Length of its rounds, if it learns from rounds.
        place: Its place in the population, if all members begin together.
        fields: Further fields of the ledger.
    """
    hyperparameters = Hyperparameters(learn_step=round_steps or 5, batch_size=8)
    member = Member(member_id=member_id, networks={}, hyperparameters=hyperparameters)
    ledger = MemberLedger(member=member, quota=quota, limit=quota, **fields)  # type: ignore[arg-type]
    pace: Pace = UpdatesPerStep(64, 0) if round_steps is None else Rounds()
    pace.begin(ledger, place or 0, together=place is not None)
    return ledger


def ledgers(quotas: Mapping[int, int], rounds: Mapping[int, int] | None = None, **fields: int) -> list[MemberLedger]:
    """Ledgers of a population that begins a generation together; `rounds` are the lengths of members' rounds."""
    return [
        begun(member_id, quota, None if rounds is None else rounds[member_id], place, **fields)
        for place, (member_id, quota) in enumerate(quotas.items())
    ]


def ledger_of(scheduler: Scheduler, member_id: int) -> MemberLedger:
    """The ledger of a member that is in its generation."""
    ledger = scheduler.ledger(member_id)
    assert ledger is not None
    return ledger


def play(order: Order, scheduler: Scheduler, share: float = 1.0) -> None:
    """Answer an order with a share of its steps, and all its evaluation seeds."""
    steps: Counter[int] = Counter()
    for slot in order.slots:
        steps[slot.member_id] += int(slot.steps * share)
    key = next(key for key, out in scheduler.outstanding() if out.order_id == order.order_id)
    scheduler.complete(order.order_id, steps)
    if order.slots:
        scheduler.trained(key, brought=any(steps.values()))
