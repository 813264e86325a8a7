"""The replay memory against a plain list of fragments."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.support.examples import examples

from covey.errors import ConfigError
from covey.rows import Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.packing import counter_rng

S, F, C, T, L = RowKind.STEP, RowKind.FINAL, RowKind.CUT, RowKind.TAIL, RowKind.LEAD_IN


def box(n: int, dtype: str = "float32", low: float = -1.0, high: float = 1.0) -> Box:
    return Box(dtype, (n,), (low,) * n, (high,) * n)


# Groups interleave in the environment's order, dtypes and kinds of actions are mixed.
SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("a_0", box(2), box(2, low=0, high=4)),
        AgentSpec("b_0", Box("uint8", (2, 2), (0,) * 4, (255,) * 4), Discrete(3, start=5)),
        AgentSpec("a_1", box(2), box(2, low=0, high=4)),
        AgentSpec("c_0", box(3, "float64"), box(1, "float64", low=-np.inf, high=np.inf)),
        AgentSpec("b_1", Box("uint8", (2, 2), (0,) * 4, (255,) * 4), Discrete(3, start=5)),
    ]
)
SCHEMA = RowSchema.of(SPACES)
stream_kinds = st.lists(
    st.one_of(st.integers(1, 6).map(lambda n: [S] * n + [F]), st.integers(1, 4).map(lambda n: [S] * n + [C])),
    max_size=2,
).flatmap(
    lambda episodes: st.integers(0, 5).map(
        lambda n: [k for e in episodes for k in e] + ([S] * n + [T] if n or not episodes else [])
    )
)
fragment_kinds = st.lists(stream_kinds, min_size=1, max_size=4)


def fragment(kinds: Sequence[Sequence[int]], number: int) -> tuple[Columns, list[SlotStream]]:
    """Rows that name themselves: a_0's observation is (fragment number, row of the fragment)."""
    flat = [k for stream in kinds for k in stream]
    rng = np.random.default_rng(number)
    columns = SCHEMA.empty(len(flat))
    columns["kind"][:] = flat
    for name, column in columns.items():
        if name.endswith("/active"):
            column[:] = columns["kind"].reshape(-1, 1) != F
        elif name.endswith(("/terminated", "/truncated")):
            columns[name] = rng.integers(0, 2, column.shape).astype(column.dtype)
        elif name == "b/observation":
            columns[name] = rng.integers(0, 256, column.shape).astype(column.dtype)
        elif name == "b/action":
            columns[name] = rng.integers(5, 8, column.shape)
        elif name.endswith(("/observation", "/action", "/reward")):
            columns[name] = rng.uniform(0, 4, column.shape).astype(column.dtype)
    columns["a/observation"][:, 0, 0] = number
    columns["a/observation"][:, 0, 1] = np.arange(len(flat))
    for column in columns.values():
        column.flags.writeable = False
    streams = [
        SlotStream(
            slot=i, rows=sum(k != L for k in s), lead_in_rows=sum(k == L for k in s), steps=sum(k == S for k in s)
        )
        for i, s in enumerate(kinds)
    ]
    return columns, streams


def draw(replay: Replay, sizes: Sequence[int], update: int = 0) -> Batch:
    keys = counter_rng.keys(3, range(len(sizes)), [update] * len(sizes))
    return replay.sample(keys, torch.tensor(sizes), max(sizes))


@examples(0.25)
@given(st.lists(fragment_kinds, min_size=1, max_size=25), st.integers(40, 90), st.booleans())
def test_fragments_come_back_whole_until_they_are_evicted_whole(
    fragments: list[list[list[int]]], max_size: int, tight: bool
) -> None:
    roomy = Replay(SPACES, max_size, 1 << 24)
    # Little room for rows: wrapping leaves gaps and evicts more than env steps alone would.
    max_bytes = 8 * max_size + 80 * roomy._layout.row_bytes
    replay = Replay(SPACES, max_size, max_bytes) if tight else roomy
    model: list[tuple[int, Columns, list[int]]] = []
    inserted = 0
    for number, kinds in enumerate(fragments):
        columns, streams = fragment(kinds, number)
        steps = np.flatnonzero(columns["kind"] == S).tolist()
        if len(columns["kind"]) > (80 if tight else 2 * max_size) or len(steps) > max_size:
            with pytest.raises(ConfigError, match="raise max_size"):
                replay.insert(columns, streams, number)
            continue
        replay.insert(columns, streams, number)
        model.append((number, columns, steps))
        inserted += len(steps)
        model = model[-replay.fragments :]
        assert replay.oldest_tag == model[0][0]
        assert len(replay) == sum(len(s) for _, _, s in model) <= max_size
    assert replay.inserted_steps == inserted
    if not len(replay):
        return
    valid = {(number, i) for number, _, steps in model for i in steps}
    found = set()
    by_number = {number: columns for number, columns, _ in model}
    batch = draw(replay, [64, 17])
    for m, b in np.ndindex(2, 64):
        number, i = (int(x) for x in batch.observation[0][m, b, :2])
        found.add((number, i))
        expect_row(batch, m, b, by_number[number], i, own=b < (64, 17)[m])
    assert found <= valid
    for update in range(30):
        more = draw(replay, [64], update).observation[0][0, :, :2].int().tolist()
        found |= {(number, i) for number, i in more}
    assert found == valid


def expect_row(batch: Batch, m: int, b: int, columns: Columns, i: int, *, own: bool) -> None:
    for g, group in enumerate(SPACES.groups):
        for seen, row in ((batch.observation[g], i), (batch.next_observation[g], i + 1)):
            expected = columns[f"{group.group_id}/observation"][row].reshape(-1) / (255 if group.group_id == "b" else 1)
            np.testing.assert_allclose(seen[m, b].numpy(), expected, rtol=1e-6)
    walk = columns["a/action"][i] / 2 - 1
    say = np.eye(3)[columns["b/action"][i] - 5]
    action = np.concatenate([walk[0], say[0], walk[1], columns["c/action"][i, 0], say[1]])
    np.testing.assert_allclose(batch.action[m, b].numpy(), action, atol=1e-6)
    for name, got in (("reward", batch.reward), ("terminated", batch.terminated), ("active", batch.weight)):
        a, bb, c = (columns[f"{g}/{name}"][i] for g in "abc")
        expected = np.array([a[0], bb[0], a[1], c[0], bb[1]], np.float32)
        np.testing.assert_array_equal(got[m, b].numpy(), expected * (own if name == "active" else 1))
    assert (batch.part, batch.steps, batch.legal, batch.next_part, batch.next_action) == (None,) * 5


def test_without_byte_pressure_only_as_much_is_evicted_as_env_steps_demand() -> None:
    replay = Replay(SPACES, 100, 1 << 24)
    for number in range(30):
        replay.insert(*fragment([[S] * 7 + [T]], number), tag=number)
    assert len(replay) == 98 and replay.oldest_tag == 16


def test_a_fragment_that_wraps_evicts_what_is_older_before_what_it_overwrites() -> None:
    row_bytes = Replay(SPACES, 200, 1 << 24)._layout.row_bytes
    replay = Replay(SPACES, 200, 8 * 200 + 80 * row_bytes)
    # Rows 0-64, 65-79, 0-49; the last one does not fit above 50, and rows 65-79 are older than what it overwrites.
    for number, rows in enumerate((65, 15, 50)):
        replay.insert(*fragment([[S] * (rows - 1) + [T]], number), tag=number)
    assert (replay.oldest_tag, len(replay)) == (1, 14 + 49)
    replay.insert(*fragment([[S] * 34 + [T]], 3), tag=3)
    assert (replay.oldest_tag, len(replay)) == (3, 34)
    assert set(draw(replay, [64]).observation[0][0, :, 0].tolist()) == {3.0}


def test_members_draw_for_themselves() -> None:
    replay = Replay(SPACES, 1000, 1 << 24)
    for number in range(10):
        replay.insert(*fragment([[S] * 50 + [T]], number))
    together = draw(replay, [8, 32])
    keys = counter_rng.keys(3, [1], [0])
    alone = replay.sample(keys, torch.tensor([32]), 32)
    assert torch.equal(together.observation[0][1], alone.observation[0][0])
    assert not torch.equal(together.observation[0][0], alone.observation[0][0])


def test_draws_are_uniform_over_env_steps() -> None:
    replay = Replay(SPACES, 64, 1 << 24)
    for number in range(6):
        replay.insert(*fragment([[S] * 15 + [F]], number))
    batch = draw(replay, [60_000])
    cells = (batch.observation[0][0, :, 0] * 15 + batch.observation[0][0, :, 1]).long() - 30
    seen = torch.bincount(cells, minlength=60).double()
    assert len(replay) == 60 and len(seen) == 60
    assert float(((seen - 1000) ** 2 / 1000).sum()) < 59 + 5 * np.sqrt(2 * 59)


def test_memory_bounds_are_kept_and_named() -> None:
    replay = Replay(SPACES, 1000, 8 * 1000 + 50 * 160)
    held = sum(m.numel() * m.element_size() for m in (*replay._matrices.values(), replay._drawable_rows))
    assert held <= 8 * 1000 + 50 * 160
    with pytest.raises(ConfigError, match=r"replay_buffer.max_bytes: 100"):
        Replay(SPACES, 1000, 100)
    with pytest.raises(ConfigError, match="holds 10 env steps"):
        Replay(SPACES, 10, 1 << 24).insert(*fragment([[S] * 11 + [T]], 0))


@pytest.mark.slow
def test_sampling_while_another_thread_inserts_never_sees_a_torn_fragment() -> None:
    replay = Replay(SPACES, 200, 1 << 24)
    replay.insert(*fragment([[S] * 30 + [T]], 0))
    stop = threading.Event()

    def insert() -> None:
        number = 1
        while not stop.is_set():
            columns, streams = fragment([[S] * 30 + [T]], number)
            columns["a/observation"] = np.full_like(columns["a/observation"], number)
            replay.insert(columns, streams)
            number += 1

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        for update in range(300):
            batch = draw(replay, [64], update)
            now, after = batch.observation[0][0, :, 0], batch.next_observation[0][0, :, 0]
            assert torch.equal(now, after)
    finally:
        stop.set()
        thread.join()


def test_observations_are_encoded_when_drawn_and_kept_as_they_came() -> None:
    spaces = EnvironmentSpaces.build(
        [
            AgentSpec("d_0", Discrete(3, start=4), box(1)),
            AgentSpec("m_0", MultiDiscrete((2, 3)), box(1)),
            AgentSpec("b_0", MultiBinary(3), box(1)),
            AgentSpec("p_0", Box("uint8", (2, 2), (0,) * 4, (255,) * 4), box(1)),
        ]
    )
    columns = RowSchema.of(spaces).empty(2)
    columns["kind"][:] = [S, T]
    columns["d/observation"][:, 0] = [4, 6]
    columns["m/observation"][:, 0] = [[1, 0], [0, 2]]
    columns["b/observation"][:, 0] = [[1, 0, 1], [0, 0, 1]]
    columns["p/observation"][:, 0] = [[[0, 255], [51, 102]], [[255, 0], [0, 0]]]
    for g in "dmbp":
        columns[f"{g}/active"][:] = 1
    replay = Replay(spaces, 4, 1 << 20)
    replay.insert(columns, [SlotStream(rows=2, steps=1)])
    batch = draw(replay, [1])
    assert [x[0, 0].tolist() for x in batch.observation[:3]] == [[1, 0, 0], [0, 1, 1, 0, 0], [1, 0, 1]]
    assert [x[0, 0].tolist() for x in batch.next_observation[:3]] == [[0, 0, 1], [1, 0, 0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(batch.observation[3][0, 0], [0, 1, 0.2, 0.4], rtol=1e-6)
    assert {d: m.shape[1] for d, m in replay.step_rows().items()} == {
        "int64": 3,
        "int8": 3,
        "uint8": 4 + 2 * 4,
        "float32": 4 + 4,
    }
