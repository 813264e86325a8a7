"""What waits to go down an actor's stream."""

from __future__ import annotations

import asyncio

from covey.v1 import actor_service_pb2 as pb
from covey.v1.order_pb2 import Order
from covey_server.serving.actor_service import _Outgoing


async def taken(outgoing: _Outgoing, count: int) -> list[pb.LearnerFrame]:
    frames = outgoing.frames()
    async with asyncio.timeout(5):
        return [await anext(frames) for _ in range(count)]


def order(order_id: int) -> pb.LearnerFrame:
    return pb.LearnerFrame(order=Order(order_id=order_id))


def test_an_acknowledgement_goes_before_the_orders_that_keep_coming() -> None:
    async def run() -> list[str | None]:
        outgoing = _Outgoing()
        outgoing.put(order(1))
        kinds: list[str | None] = []
        async for frame in outgoing.frames():
            kinds.append(frame.WhichOneof("kind"))
            if len(kinds) == 6:
                return kinds
            outgoing.put(order(1 + len(kinds)))  # so there is always one
            if len(kinds) % 2 == 0:
                outgoing.ack(pb.Ack(received_seq=len(kinds)))
        return kinds

    assert asyncio.run(run()) == ["order", "order", "ack", "order", "ack", "order"]


def test_acknowledgements_that_wait_become_one_that_forgets_nothing() -> None:
    async def run() -> list[pb.LearnerFrame]:
        outgoing = _Outgoing()
        outgoing.ack(pb.Ack(received_seq=1, refusals=[pb.Refusal(seq=1, reason="rows")]))
        outgoing.ack(pb.Ack(received_seq=2, resend_from_seq=3))
        outgoing.ack(pb.Ack(received_seq=2, durable_seq=2))
        outgoing.put(order(7))
        outgoing.end(pb.StreamError(message="over"))
        return [frame async for frame in outgoing.frames()]

    ack, second, last = asyncio.run(run())
    assert (ack.ack.received_seq, ack.ack.durable_seq, ack.ack.resend_from_seq) == (2, 2, 3)
    assert [r.seq for r in ack.ack.refusals] == [1]
    assert (second.order.order_id, last.error.message) == (7, "over")


def test_a_reader_that_waits_gets_what_comes_later() -> None:
    async def run() -> tuple[list[pb.LearnerFrame], list[pb.LearnerFrame]]:
        outgoing = _Outgoing()
        reader = asyncio.create_task(taken(outgoing, 1))
        await asyncio.sleep(0)
        outgoing.ack(pb.Ack(received_seq=1))
        first = await reader
        outgoing.end()
        return first, [frame async for frame in outgoing.frames()]

    first, rest = asyncio.run(run())
    assert first[0].ack.received_seq == 1
    assert rest == []
