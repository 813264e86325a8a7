"""Actors whose environments cost nothing: they answer every order with rows that one real collector recorded.

    python benchmarks/synthetic/actors.py HOST:PORT [--actors 16] [--rows-per-s 10000]

They describe, join, work, fetch policies and leave as real ones do, each with a channel of its own, all in one asyncio
loop. Started by `growth.py`, which says on stdin when to begin to measure and when to end; then one JSON object is
printed: env steps sent, seconds, and the milliseconds from the sending of each fragment to its acknowledgement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import time
from collections import deque

import grpc
import numpy as np

from covey.collect import Collector
from covey.envs import build_slots, load_environment, read_spaces
from covey.rows import RowKind, RowSchema
from covey.v1 import actor_service_pb2 as pb
from covey.v1 import actor_service_pb2_grpc as services
from covey.v1.environment_pb2 import EnvironmentSpec
from covey.v1.fragment_pb2 import Fragment
from covey.v1.order_pb2 import Order, PolicyRef
from covey.wire.channel import CLIENT_OPTIONS
from covey.wire.messages import groups_from_proto, spaces_to_proto

RECORDED_SLOTS, RECORDED_STEPS = 8, 64
EVALUATION_STEPS = 25

_Stream = grpc.aio.StreamStreamCall[pb.ActorFrame, pb.LearnerFrame]
_Rows = tuple[list[int], bytes, int, list[list[int]]]


class Recording:
    """Streams of random play, cut to what an order asks for."""

    def __init__(self, spec: EnvironmentSpec) -> None:
        make = load_environment(spec.entry_point, json.loads(spec.config_json or "{}"))
        env = make()
        self.spaces = read_spaces(env, groups_from_proto(spec.groups))
        env.close()
        self.schema = RowSchema.of(self.spaces)
        slots = build_slots(make, self.spaces, RECORDED_SLOTS, "sync")
        collector = Collector(slots, self.spaces, self.schema, RECORDED_SLOTS, 1)
        order = Order(policies=[PolicyRef(builtin="random")])
        for slot in range(RECORDED_SLOTS):
            order.slots.add(slot=slot, steps=RECORDED_STEPS, agent_policies=[0] * len(self.spaces.agents))
        fragment = collector.run(order, {})
        collector.close()
        self._streams = [stream.rows for stream in fragment.streams]
        self._columns = self.schema.decode(fragment.blob, sum(self._streams), fragment.raw_bytes)
        self._returns = [-1.0] * len(self.spaces.agents)
        self._known: dict[tuple[int, ...], _Rows] = {}

    def answer(self, order: Order) -> Fragment:
        """The fragment that an actor returns for an order, its `seq` left 0."""
        fragment = Fragment(order_id=order.order_id, schema_hash=self.schema.hash)
        if order.slots:
            steps = tuple(work.steps for work in order.slots)
            if steps not in self._known:
                self._known[steps] = self._rows(steps)
            rows, blob, raw_bytes, ended = self._known[steps]
            fragment.blob, fragment.raw_bytes = blob, raw_bytes
            for work, count, lengths in zip(order.slots, rows, ended, strict=True):
                fragment.streams.add(slot=work.slot, rows=count, steps=work.steps)
                for length in lengths:
                    fragment.episodes.add(
                        slot=work.slot, length=length, member_id=work.member_id, returns=self._returns
                    )
        for task in order.evaluations:
            played = b"".join(order.policies[i].sha256[:16] for i in task.agent_policies)
            for seed in task.seeds:
                fragment.episodes.add(
                    evaluation=True,
                    seed=seed,
                    task_id=task.task_id,
                    policies=played,
                    length=EVALUATION_STEPS,
                    returns=self._returns,
                )
                fragment.eval_steps += EVALUATION_STEPS
        return fragment

    def _rows(self, steps: tuple[int, ...]) -> _Rows:
        """Rows of each stream, blob, its length before compression, and lengths of the episodes that end in each."""
        kind = self._columns["kind"]
        starts = np.cumsum([0, *self._streams])
        taken, kinds, ended = [], [], []
        for i, wanted in enumerate(steps):
            first = starts[i % RECORDED_SLOTS]
            is_step = kind[first : starts[i % RECORDED_SLOTS + 1]] == RowKind.STEP
            last = int(np.searchsorted(np.cumsum(is_step), wanted)) + 1  # the row after the last step closes the stream
            rows = np.arange(first, first + last + 1)
            own = kind[rows].copy()
            if own[-1] != RowKind.FINAL:
                own[-1] = RowKind.TAIL
            taken.append(rows)
            kinds.append(own)
            ended.append(np.diff(np.flatnonzero(own == RowKind.FINAL), prepend=-1).astype(int).tolist())
        at, kinds_at = np.concatenate(taken), np.concatenate(kinds)
        columns = {name: column[at] for name, column in self._columns.items()}
        columns["kind"] = kinds_at
        for group in self.spaces.groups:
            columns[f"{group.group_id}/active"][kinds_at == RowKind.TAIL] = 1
            for name in ("action", "reward", "terminated", "truncated"):
                columns[f"{group.group_id}/{name}"][kinds_at == RowKind.TAIL] = 0
        blob, raw_bytes = self.schema.encode(columns, 1)
        return [len(rows) for rows in taken], blob, raw_bytes, [[n - 1 for n in lengths] for lengths in ended]


class Actor:
    """One of them."""

    def __init__(self, address: str, name: str, steps_per_s: float | None, phase: float) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self._stub: services.ActorServiceAsyncStub = services.ActorServiceStub(self._channel)
        self._name = name
        self._steps_per_s = steps_per_s
        self._phase = phase
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()  # None: a heartbeat is due
        self._sent: deque[tuple[int, float]] = deque()
        self._fetched: deque[bytes] = deque(maxlen=256)
        self.joined = asyncio.Event()
        self.measuring = False
        self.steps = 0
        self.ack_ms: list[float] = []

    async def work(self, recording: Recording, spec: EnvironmentSpec) -> None:
        """Until this is cancelled."""
        joined = await self._stub.Join(
            pb.JoinRequest(
                protocol_version=1,
                actor_id=self._name,
                incarnation=secrets.randbits(63) + 1,
                spaces=spaces_to_proto(recording.spaces),
                train_slots=spec.train_slots,
                eval_slots=spec.eval_slots,
            )
        )
        stream = self._stub.Work()
        await stream.write(pb.ActorFrame(hello=pb.Hello(session=joined.session)))
        self.joined.set()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._answer(stream, recording))
                both.create_task(self._listen(stream))
        finally:
            stream.cancel()
            await self._channel.close()

    async def _listen(self, stream: _Stream) -> None:
        async for frame in stream:
            match frame.WhichOneof("kind"):
                case "order":
                    self._orders.put_nowait(frame.order)
                case "ack" if not frame.ack.refusals and not frame.ack.resend_from_seq:
                    self._acknowledged(frame.ack.received_seq)
                case "heartbeat":
                    self._orders.put_nowait(None)
                case _:
                    raise RuntimeError(f"synthetic actor {self._name}: {frame}")
        raise RuntimeError(f"synthetic actor {self._name}: the learner hung up")

    async def _answer(self, stream: _Stream, recording: Recording) -> None:
        due = time.perf_counter()
        seq = 0
        while True:
            order = await self._orders.get()
            if order is None:
                await stream.write(pb.ActorFrame(heartbeat=pb.Heartbeat()))
                continue
            lacking = [ref.sha256 for ref in order.policies if ref.sha256 and ref.sha256 not in self._fetched]
            if lacking:
                async for _ in self._stub.FetchPolicy(pb.FetchPolicyRequest(sha256=lacking[0], then=lacking[1:])):
                    pass
                self._fetched.extend(lacking)
            steps = sum(work.steps for work in order.slots)
            if self._steps_per_s:
                # As far apart as an environment would have them; time lost to waiting is not caught up.
                due = max(due + steps / self._steps_per_s, time.perf_counter())
                if not seq:  # nor do they all begin at once
                    due += self._phase * steps / self._steps_per_s
                await asyncio.sleep(due - time.perf_counter())
            fragment = recording.answer(order)
            seq += 1
            fragment.seq = seq
            self._sent.append((seq, time.perf_counter()))
            await stream.write(pb.ActorFrame(fragment=fragment))
            self.steps += steps if self.measuring else 0

    def _acknowledged(self, received_seq: int) -> None:
        now = time.perf_counter()
        while self._sent and self._sent[0][0] <= received_seq:
            _, at = self._sent.popleft()
            if self.measuring:
                self.ack_ms.append(1e3 * (now - at))


async def run(address: str, count: int, rows_per_s: float | None, name: str) -> dict[str, object]:
    """Let so many actors work, and measure from one line on stdin to the next."""
    async with grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
        describe: services.ActorServiceAsyncStub = services.ActorServiceStub(channel)
        described = await describe.Describe(pb.DescribeRequest(protocol_version=1))
    recording = Recording(described.environment)
    rate = None if rows_per_s is None else rows_per_s / count
    actors = [Actor(address, f"{name}-{i}", rate, i / count) for i in range(count)]
    works = [asyncio.create_task(actor.work(recording, described.environment)) for actor in actors]
    for actor, work in zip(actors, works, strict=True):
        joining = asyncio.create_task(actor.joined.wait())
        await asyncio.wait([joining, work], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    print("joined", flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    began = time.perf_counter()
    for actor in actors:
        actor.measuring = True
    await loop.run_in_executor(None, sys.stdin.readline)
    seconds = time.perf_counter() - began
    for work in works:
        if work.done():
            work.result()
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)
    return {
        "steps": sum(actor.steps for actor in actors),
        "seconds": seconds,
        "ack_ms": [ms for actor in actors for ms in actor.ack_ms],
    }


def main() -> None:
    """Work and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("learner", metavar="HOST:PORT")
    parser.add_argument("--actors", type=int, default=16)
    parser.add_argument("--rows-per-s", type=float, help="env steps a second of all of them together; unset: no limit")
    parser.add_argument("--name", default="synthetic")
    args = parser.parse_args()
    print(json.dumps(asyncio.run(run(args.learner, args.actors, args.rows_per_s, args.name))))


if __name__ == "__main__":
    main()
