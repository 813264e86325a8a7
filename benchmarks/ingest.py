"""Ingest on one learner core: env-step rows a second from the wire to memory, for fragments of MPE size.

    python benchmarks/ingest.py [--rows 1024] [--seconds 2] [--rate 100000]

Prints one JSON object. `rows_per_s`: as fast as it goes, rows per second of CPU time: what waits for the disk is not in
it. `validation`: parse, every check, decompression. `journal`: and the append. `replay`: and the insertion into replay
memory. `at_rate`: CPU seconds per million rows while they come at `--rate` and a thread syncs the journal as that of a
learner does: of appending, of syncing, of all together. What a whole learner takes for as many, with gRPC and orders,
is `learner_cpu_s_per_million_rows` of `growth.py --rows-per-s`, whose fragments have 256 rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from mpe2 import simple_spread_v3

from covey.config import Checkpoint
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, EnvironmentSpaces
from covey.v1.fragment_pb2 import Fragment, ReceivedFragment
from covey.v1.order_pb2 import Order
from covey_server.experience.experience import AcceptedRows
from covey_server.experience.replay import Replay
from covey_server.ingest.validation import check_fragment
from covey_server.storage.journal import Journal, Kind

STEPS = 32
AGENTS, OBSERVATION, ACTION = 3, 18, 5  # simple_spread_v3, continuous


def spread() -> EnvironmentSpaces:
    """The spaces of simple_spread_v3 with continuous actions."""
    seen = Box("float32", (OBSERVATION,), (-np.inf,) * OBSERVATION, (np.inf,) * OBSERVATION)
    act = Box("float32", (ACTION,), (0.0,) * ACTION, (1.0,) * ACTION)
    return EnvironmentSpaces.build([AgentSpec(f"agent_{i}", seen, act) for i in range(AGENTS)])


def build(schema: RowSchema, slots: int, seed: int) -> tuple[Fragment, Order]:
    """A fragment of `slots` streams of STEPS random steps and a tail, as the environment gave them, and its order."""
    environment = simple_spread_v3.parallel_env(continuous_actions=True, max_cycles=STEPS + 1)
    rng = np.random.default_rng(seed)
    columns = schema.empty(slots * (STEPS + 1))
    columns["kind"][:] = np.tile([RowKind.STEP] * STEPS + [RowKind.TAIL], slots)
    columns["agent/active"][:] = 1
    row = 0
    for slot in range(slots):
        seen, _ = environment.reset(seed=1000 * seed + slot)
        for _ in range(STEPS):
            acts = dict(zip(seen, rng.random((AGENTS, ACTION), np.float32), strict=True))
            columns["agent/observation"][row] = np.stack(list(seen.values()))
            columns["agent/action"][row] = np.stack(list(acts.values()))
            seen, reward, *_ = environment.step(acts)
            columns["agent/reward"][row] = list(reward.values())
            row += 1
        columns["agent/observation"][row] = np.stack(list(seen.values()))
        row += 1
    environment.close()
    fragment = Fragment(seq=1, order_id=1, schema_hash=schema.hash)
    order = Order(order_id=1)
    for slot in range(slots):
        fragment.streams.add(slot=slot, rows=STEPS + 1, steps=STEPS)
        order.slots.add(slot=slot, steps=STEPS, member_id=slot % 4)
    fragment.blob, fragment.raw_bytes = schema.encode(columns, 1)
    return fragment, order


def rate(work: Callable[[], int], seconds: float) -> float:
    """Rows a second of `work`, which returns its rows; the best of stretches of a twentieth of a second."""
    end = time.thread_time() + seconds
    best = 0.0
    while time.thread_time() < end:
        rows, begin = 0, time.thread_time()
        while (elapsed := time.thread_time() - begin) < 0.05:
            rows += work()
        best = max(best, rows / elapsed)
    return best


def at_rate(
    ingest: Callable[[], int], journal: Journal, appending: list[float], rows_per_s: float, seconds: float
) -> dict[str, float]:
    """CPU seconds per million rows while `ingest`, which returns its rows, is called at this rate.

    Args:
        ingest: Called; adds the seconds that it spends on the journal to `appending`.
        journal: Synced meanwhile, by time and by bytes.
        appending: CPU seconds of every append.
        rows_per_s: Upper bound.
        seconds: Wall time.
    """
    ended = threading.Event()
    syncing: list[float] = []

    def sync() -> None:
        while not ended.is_set():
            journal.due.wait(Checkpoint().journal_sync_s)
            journal.sync()
        syncing.append(time.thread_time())

    thread = threading.Thread(target=sync)
    appending.clear()
    rows, begin, used = 0, time.perf_counter(), time.process_time()
    thread.start()
    while (elapsed := time.perf_counter() - begin) < seconds:
        if rows < elapsed * rows_per_s:
            rows += ingest()
        else:
            time.sleep(0.001)
    ended.set()
    thread.join()
    spent = {"append": sum(appending), "sync": syncing[0], "all": time.process_time() - used}
    return {name: round(cpu_s / rows * 1e6, 3) for name, cpu_s in spent.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1024, help="env steps of a fragment")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--rate", type=int, default=100_000, help="rows a second of the last measurement")
    args = parser.parse_args()
    spaces = spread()
    schema = RowSchema.of(spaces)
    built = [build(schema, max(1, args.rows // STEPS), seed) for seed in range(4)]
    wires = itertools.cycle([(fragment.SerializeToString(), order) for fragment, order in built])
    replay = Replay(spaces, 200_000, 1 << 30)

    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Checkpoint()
        journal = Journal.open(Path(directory), checkpoint.journal_segment_bytes, checkpoint.journal_sync_bytes)

        appending: list[float] = []

        def ingest(*, into_journal: bool, into_replay: bool) -> int:
            wire, order = next(wires)
            fragment = Fragment.FromString(wire)
            accepted = check_fragment(fragment, order, schema, spaces)
            position = journal.start
            if into_journal:
                begin = time.thread_time()
                received = ReceivedFragment(actor_id="a", incarnation=1, fragment=fragment)
                position = journal.append(Kind.FRAGMENT, received.SerializeToString())
                if position.segment > journal.start.segment + 2:
                    journal.drop_before(position)
                appending.append(time.thread_time() - begin)
            if into_replay:
                streams = fragment.streams, accepted.streams
                replay.add(AcceptedRows(accepted.raw, accepted.rows, *streams, actor=("a", 1), position=position), ())
            return accepted.steps

        rates = {
            "validation": rate(lambda: ingest(into_journal=False, into_replay=False), args.seconds),
            "journal": rate(lambda: ingest(into_journal=True, into_replay=False), args.seconds),
            "replay": rate(lambda: ingest(into_journal=True, into_replay=True), args.seconds),
        }
        journal.sync()
        whole = partial(ingest, into_journal=True, into_replay=True)
        costs = at_rate(whole, journal, appending, args.rate, args.seconds)
        journal.close()
    fragment = built[0][0]
    print(
        json.dumps(
            {
                "benchmark": "ingest",
                "rows_per_s": {name: round(value) for name, value in rates.items()},
                "at_rate": {"rows_per_s": args.rate, "cpu_s_per_million_rows": costs},
                "rows_per_fragment": sum(s.steps for s in fragment.streams),
                "raw_bytes_per_fragment": fragment.raw_bytes,
                "wire_bytes_per_fragment": len(fragment.blob),
            }
        )
    )


if __name__ == "__main__":
    main()
