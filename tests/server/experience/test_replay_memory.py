"""What a replay memory takes of the machine's memory: nothing at first, then as much as the rows that came."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from covey.bounds.experience import planned_replay
from covey.config import parse_config
from covey.resources import rss_bytes
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.replay import Replay

MIB = 1 << 20
STEPS = 400

# Pages may come in pieces of 2 MiB: a few for each matrix, besides what inserting itself needs for a moment.
SLACK_BYTES = 24 * MIB


def spaces(agents: int, observation: int, *, asynchronous: bool = False) -> EnvironmentSpaces:
    def box(n: int) -> Box:
        return Box("float32", (n,), (-1.0,) * n, (1.0,) * n)

    return EnvironmentSpaces.build(
        [AgentSpec(f"a_{i}", box(observation), box(1)) for i in range(agents)], asynchronous=asynchronous
    )


def fragment(of: EnvironmentSpaces, *, turns: bool) -> tuple[Columns, list[SlotStream]]:
    """Steps in which all agents act, or one after the other."""
    columns = RowSchema.of(of).empty(STEPS + 1)
    columns["kind"][:] = [RowKind.STEP] * STEPS + [RowKind.TAIL]
    agents = len(of.agents)
    columns["a/observation"][:] = 0.5
    columns["a/active"][:] = np.arange(STEPS + 1)[:, None] % agents == np.arange(agents) if turns else 1
    return columns, [SlotStream(rows=STEPS + 1, steps=STEPS)]


# What dominates: wide rows; where the decisions of agents that take turns close; the ring of rows that may be drawn.
CASES = {
    "wide rows": (spaces(2, 500), False, 60_000),
    "turns of many agents": (spaces(64, 1, asynchronous=True), True, 200_000),
    "many small rows": (spaces(1, 1), False, 20_000_000),
}


@pytest.mark.parametrize("case", CASES)
def test_memory_is_taken_as_rows_come_and_at_most_what_was_planned(case: str) -> None:
    # In a process of its own, where nothing else takes memory or gives any back meanwhile.
    measured = multiprocessing.get_context("spawn").Process(target=fill, args=(case,))
    measured.start()
    measured.join()
    assert measured.exitcode == 0


def fill(case: str) -> None:
    """Fill a replay memory, and look at this process's memory while that goes on."""
    of, turns, max_size = CASES[case]
    memory = {"max_size": max_size, "max_bytes": 1 << 30}
    config = parse_config(
        {"algorithm": {"name": "MATD3"}, "environment": {"name": "none"}, "training": {}, "replay_buffer": memory}
    )
    planned = planned_replay(config, of).bytes
    assert planned > 200 * MIB
    columns, streams = fragment(of, turns=turns)
    Replay(of, STEPS, 1 << 30).insert(columns, streams)  # whatever comes with the first insertion of all
    before = rss_bytes()
    replay = Replay(of, max_size, 1 << 30)
    replay.insert(columns, streams)
    assert (replay._links is not None) == turns
    assert rss_bytes() - before < SLACK_BYTES
    # A quarter of the steps take no more than a quarter of what is planned, and are really there.
    for _ in range(min(max_size // 4, 50_000) // STEPS):
        replay.insert(columns, streams)
    rows = (STEPS + 1) * replay.fragments
    written = rows * replay._layout.row_bytes - (0 if turns else rows * 8 * len(of.agents)) + 8 * len(replay)
    taken = rss_bytes() - before
    assert 0.9 * written - MIB < taken < written + SLACK_BYTES < planned / 3 + SLACK_BYTES, (taken, written)
