"""How long orders are: longer where env steps are cheap, within bounds of time, bytes and updates; pinned stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.processes import write_config
from tests.support.running_actors import Running
from tests.support.schedulers import begun, ledgers, make_scheduler

from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1.fragment_pb2 import ReceivedFragment
from covey.v1.order_pb2 import Order, SlotWork
from covey_server.app import LearnerProcess
from covey_server.orders import length
from covey_server.orders.length import AIM_S, MOST_BYTES, OrderLengths
from covey_server.orders.scheduler import Scheduler
from covey_server.storage.journal import Kind

ACTOR = ("a", 1)


def order(steps: int, eval_steps: int = 0) -> Order:
    return Order(slots=[SlotWork(slot=i, steps=steps) for i in range(4)], eval_steps=eval_steps)


def settled(step_s: float, step_bytes: int = 100, shortest: int = 32, longest: int = 256) -> OrderLengths:
    """Lengths after many orders of an actor whose steps take so long and have so many bytes."""
    lengths = OrderLengths(shortest, longest)
    for _ in range(20):
        steps = lengths.of(ACTOR, begun(0, 10**6, 10**5), 1)
        lengths.measure(ACTOR, order(steps), step_s * steps, step_bytes * steps)
    return lengths


@pytest.mark.parametrize(
    ("step_s", "step_bytes", "steps"),
    [
        (1e-5, 100, 256),
        (AIM_S / 256, 100, 256),
        (AIM_S / 255, 100, 128),
        (AIM_S / 65, 100, 64),
        (AIM_S / 63, 100, 32),
        (10.0, 100, 32),
        (1e-5, MOST_BYTES // 128, 128),
        (1e-5, MOST_BYTES, 32),
    ],
)
def test_cheap_steps_make_long_orders_within_seconds_and_bytes(step_s: float, step_bytes: int, steps: int) -> None:
    assert settled(step_s, step_bytes).of(ACTOR, begun(0, 10**6, 10**5), 1) == steps


def test_an_environment_that_becomes_costly_gets_short_orders_again() -> None:
    lengths = settled(1e-5)
    told = [lengths.measure(ACTOR, order(256), 1.0 * 256, 1000) for _ in range(100)]
    assert [steps for steps in told if steps is not None] == [128, 64, 32]


def test_a_length_changes_ever_more_rarely_on_a_machine_that_is_busy_at_times() -> None:
    lengths = OrderLengths(32, 256)
    told = [lengths.measure(ACTOR, order(64), 64.0 if n // 8 % 2 else 1e-4, 1000) for n in range(10_000)]
    assert 3 <= sum(steps is not None for steps in told) <= 14


def test_only_the_greatest_length_of_all_actors_is_told() -> None:
    lengths = OrderLengths(32, 64)
    told = [lengths.measure((f"a{i}", 1), order(32), 1e-4, 100) for i in range(5)]
    assert told == [64, None, None, None, None]


@pytest.mark.parametrize("steps", [1, 32, 1024])
def test_a_pinned_length_stays(steps: int) -> None:
    lengths = settled(1e-5, shortest=steps, longest=steps)
    assert lengths.of(ACTOR, begun(0, 10**6, 10**5), 1) == steps


def test_what_says_nothing_about_training_is_not_measured() -> None:
    lengths = OrderLengths(32, 256)
    for said in (order(8), order(32, eval_steps=32), Order(eval_steps=32)):
        assert lengths.measure(ACTOR, said, 1e-4, 100) is None
    assert lengths.of(ACTOR, begun(0, 10**6, 10**5), 1) == 32


@pytest.mark.parametrize(("slots", "steps"), [(1, 32), (64, 32), (0, 32)])
def test_orders_of_members_that_learn_from_replay_do_not_grow_old(slots: int, steps: int) -> None:
    assert settled(1e-5).of(ACTOR, begun(0, 10**6), slots) == steps  # an update every five env steps


def test_a_member_with_rare_updates_gets_longer_orders() -> None:
    ledger = begun(0, 10**6)
    ledger.member.hyperparameters = ledger.member.hyperparameters.model_copy(update={"learn_step": 100})
    lengths = settled(1e-5)
    assert [lengths.of(ACTOR, ledger, slots) for slots in (1, 2, 4, 16)] == [256, 200, 100, 32]


def test_an_actor_that_left_begins_anew() -> None:
    lengths = settled(1e-5)
    lengths.forget(ACTOR)
    lengths.forget(("never", 1))
    assert lengths.of(ACTOR, begun(0, 10**6, 10**5), 1) == 32


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(1, 700), st.integers(1, 6))
def test_every_member_gets_exactly_its_rounds_whatever_orders_take(
    taken_s: list[float], round_steps: int, slots: int
) -> None:
    scheduler = make_scheduler(longest_steps=256)
    scheduler.begin_generation(ledgers(dict.fromkeys(range(2), 1000), dict.fromkeys(range(2), round_steps)))
    scheduler.add_actor(ACTOR, slots, 0)
    assert_whole_rounds(scheduler, taken_s, round_steps)


def assert_whole_rounds(scheduler: Scheduler, taken_s: list[float], round_steps: int) -> None:
    """Play a generation whose orders take these seconds in turn: no round is exceeded and no order is too long."""
    for n in range(10_000):
        made = scheduler.next_order(ACTOR)
        if made is None:
            due = [ledger for ledger in scheduler.ledgers if ledger.round_complete]
            if not due:
                break
            for ledger in due:
                ledger.next_round()
            continue
        steps = Counter[int]()
        for work in made.slots:
            assert 1 <= work.steps <= 256
            steps[work.member_id] += work.steps
        scheduler.complete(made.order_id, steps)
        scheduler.lengths.measure(ACTOR, made, taken_s[n % len(taken_s)], 100)
        for ledger in scheduler.ledgers:
            assert ledger.accepted - ledger.round_start <= round_steps
    assert [ledger.accepted for ledger in scheduler.ledgers] == [1000, 1000]


@pytest.mark.parametrize(
    ("sections", "longest"),
    [({}, 256), ({"actors": {"fragment_steps": 16}}, 16), ({"training": {"deterministic": True}}, 32)],
)
def test_a_real_run_has_orders_within_its_bounds(
    sections: dict[str, Any], longest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(length, "AIM_S", 60.0)  # every environment is cheap, however busy the machine
    training = {"pop_size": 1, "max_steps": 4000, "evo_steps": 4000} | sections.get("training", {})
    made = load_config(
        write_config(
            tmp_path / "job.yaml",
            algorithm={"name": "IPPO", "learn_step": 1000, "batch_size": 500, "update_epochs": 1},
            environment={"num_envs": 1},
            **(sections | {"training": training}),
        )
    )
    process = LearnerProcess(made, new_run(made, tmp_path / "runs"))
    try:
        actor = Running(process.start(), allow_env=("*",))
        process.wait()
        fragments = [
            ReceivedFragment.FromString(payload).fragment
            for _, kind, payload in process.learner.journal.read()
            if kind is Kind.FRAGMENT
        ]
    finally:
        process.stop()
    assert actor.ended() is None
    steps = [stream.steps for fragment in fragments for stream in fragment.streams]
    assert sum(steps) == 4000 and max(steps) == longest
    told = [event for event in process.learner.events if event.startswith("orders ask for")]
    assert bool(told) == (longest > 32)
