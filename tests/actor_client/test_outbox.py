"""The outbox: numbers without a gap, nothing forgotten before its time, bounds that hold."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.processes import PATIENCE_S

from covey.v1 import fragment_pb2
from covey_actor.outbox import Outbox, OutboxClosed


def fragment(order_id: int = 1, size: int = 10) -> fragment_pb2.Fragment:
    return fragment_pb2.Fragment(order_id=order_id, blob=bytes(size))


def held(box: Outbox) -> list[int]:
    stream, seqs = box.stream(0), list[int]()
    while (f := stream.next(0)) is not None:
        seqs.append(f.seq)
    return seqs


def test_seqs_count_from_one_without_a_gap() -> None:
    box = Outbox()
    assert [box.put(fragment()) for _ in range(3)] == [1, 2, 3]
    assert held(box) == [1, 2, 3] and box.first_held_seq == 1 and box.last_seq == 3


def test_received_fragments_go_at_once_or_stay_until_durable() -> None:
    for forget, after_received, after_durable in ((True, [3], [3]), (False, [1, 2, 3], [2, 3])):
        box = Outbox()
        box.resume(0, forget_received=forget)
        for i in range(3):
            box.put(fragment(order_id=i + 10))
        assert box.order_ids() == [10, 11, 12]
        box.acknowledged(2, 0)
        assert held(box) == after_received
        box.acknowledged(2, 1)
        assert held(box) == after_durable
        assert not box.delivered
        box.acknowledged(3, 3)
        assert held(box) == [] and box.first_held_seq == 4 and box.delivered


def test_a_learner_that_lost_what_it_had_received_gets_it_again() -> None:
    box = Outbox()
    for _ in range(4):
        box.put(fragment())
    box.acknowledged(4, 1)
    box.resume(2)
    assert not box.delivered
    stream = box.stream(2)
    assert [f.seq for _ in range(2) if (f := stream.next(0))] == [3, 4]


def test_a_gap_is_answered_by_sending_again() -> None:
    box = Outbox()
    for _ in range(3):
        box.put(fragment())
    stream = box.stream(0)
    for _ in range(3):
        stream.next(0)
    stream.resend_from(2)
    assert [f.seq for _ in range(2) if (f := stream.next(0))] == [2, 3]
    assert stream.next(0) is None


def test_each_stream_has_its_own_place_and_a_closed_one_takes_nothing() -> None:
    box = Outbox()
    old = box.stream(0)
    waiting = threading.Thread(target=old.next, args=(2 * PATIENCE_S,), daemon=True)
    waiting.start()
    old.close()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    box.put(fragment())
    assert old.next(0) is None
    new = box.stream(0).next(0)
    assert new is not None and new.seq == 1


def test_it_is_bounded_and_waits_for_room() -> None:
    for box, size in ((Outbox(max_fragments=2), 1), (Outbox(max_bytes=3000), 1200)):
        box.put(fragment(size=size))
        box.put(fragment(size=size))
        third = threading.Thread(target=box.put, args=(fragment(size=size),), daemon=True)
        third.start()
        third.join(0.1)
        assert third.is_alive() and box.last_seq == 2
        box.acknowledged(1, 1)
        third.join(PATIENCE_S)
        assert not third.is_alive() and held(box) == [2, 3]


def test_what_was_received_gives_way_when_room_is_needed() -> None:
    box = Outbox(max_fragments=2)
    box.put(fragment())
    box.put(fragment())
    box.acknowledged(1, 0)
    box.put(fragment())
    assert held(box) == [2, 3]


def test_one_fragment_larger_than_the_bound_is_taken_alone() -> None:
    box = Outbox(max_bytes=100)
    box.put(fragment(size=500))
    assert box.stats()[0] == 1 and box.stats()[1] > 500


def test_nobody_waits_for_ever() -> None:
    box = Outbox(max_fragments=1)
    box.put(fragment())
    box.give_up_after(0.0)
    with pytest.raises(OutboxClosed):
        box.put(fragment())
    box.close()
    with pytest.raises(OutboxClosed):
        box.put(fragment())


def test_finishing_wakes_the_stream_when_all_is_received() -> None:
    box = Outbox()
    box.put(fragment())
    stream = box.stream(0)
    stream.next(0)
    box.finish()
    done = threading.Thread(target=stream.next, args=(2 * PATIENCE_S,), daemon=True)
    done.start()
    done.join(0.1)
    assert done.is_alive(), "not received yet"
    box.acknowledged(1, 0)
    done.join(PATIENCE_S)
    assert not done.is_alive()


@given(st.lists(st.one_of(st.just("put"), st.tuples(st.integers(0, 9), st.integers(0, 9))), max_size=40))
def test_nothing_unacknowledged_is_ever_dropped(events: list[str | tuple[int, int]]) -> None:
    box = Outbox(max_fragments=1000)
    last = received = durable = 0
    for event in events:
        if isinstance(event, str):
            last = box.put(fragment())
        else:
            received = max(received, min(event[0], last))
            durable = max(durable, min(event[1], received))
            box.acknowledged(received, durable)
        assert held(box) == list(range(durable + 1, last + 1))
        assert box.delivered == (received == last)
