"""Blobs of rows: what comes in is a view of what was sent, whatever came before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from covey.errors import FragmentError
from covey.rows import MAX_FLOAT32, Columns, RowSchema, is_number
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces

SEEN = Box("float32", (3, 2), (-1.0,) * 6, (1.0,) * 6)
PICTURE = Box("uint8", (4, 4), (0.0,) * 16, (255.0,) * 16)
SCHEMA = RowSchema.of(
    EnvironmentSpaces.build(
        [
            AgentSpec("scout_0", SEEN, Discrete(3)),
            AgentSpec("scout_1", SEEN, Discrete(3)),
            AgentSpec("eye_0", PICTURE, Discrete(2), masked=True),
        ]
    )
)


def filled(rows: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    columns = SCHEMA.empty(rows)
    for name, column in columns.items():
        columns[name] = rng.integers(0, 200, column.shape).astype(column.dtype)
    return columns


def test_columns_come_back_as_read_only_views_of_one_buffer() -> None:
    sent = filled(7, seed=0)
    blob, raw_bytes = SCHEMA.encode(sent, 1)
    columns = SCHEMA.decode(blob, 7, raw_bytes)
    assert list(columns) == [c.name for c in SCHEMA.columns]
    for name, column in columns.items():
        assert column.dtype == sent[name].dtype
        np.testing.assert_array_equal(column, sent[name])
        assert not column.flags.writeable
    assert len({id(column.base) for column in columns.values()}) == 1


def test_a_damaged_blob_spoils_nothing_that_comes_after_it() -> None:
    blob, raw_bytes = SCHEMA.encode(filled(50, seed=1), 1)
    for at in range(len(blob) // 2, len(blob), 17):
        damaged = bytearray(blob)
        damaged[at] ^= 0x55
        with pytest.raises(FragmentError, match=r"blob|frame"):
            SCHEMA.decode(bytes(damaged), 50, raw_bytes)
        np.testing.assert_array_equal(
            SCHEMA.decode(blob, 50, raw_bytes)["scout/observation"], filled(50, seed=1)["scout/observation"]
        )


def test_threads_do_not_disturb_each_other() -> None:
    blobs = [SCHEMA.encode(filled(400, seed), 1) for seed in range(4)]

    def decode_often(which: int) -> bool:
        expected = filled(400, which)["scout/observation"]
        return all(
            np.array_equal(SCHEMA.decode(blobs[which][0], 400, blobs[which][1])["scout/observation"], expected)
            for _ in range(50)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(decode_often, range(4)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_which_numbers_can_be_learned_from(dtype: str) -> None:
    large = {"float16": 6e4, "float32": 3e38, "float64": 3e38}.get(dtype, 1)
    values = np.array([0, large, 1], dtype)
    assert is_number(values, MAX_FLOAT32).all()
    if values.dtype.kind == "f":
        found = is_number(np.array([np.nan, 1, np.inf, -np.inf], dtype), MAX_FLOAT32)
        assert found.tolist() == [False, True, False, False]
    assert is_number(np.array([3.5e38, -1e300]), MAX_FLOAT32).tolist() == [False, False]


@pytest.mark.parametrize(
    ("ids", "groups", "expected"),
    [
        (["b_1", "judge", "a_0", "b_0"], None, {"b": [0, 3], "judge": [1], "a": [2]}),
        (["b_1", "judge", "a_0"], {"late": ["a_0"], "early": ["judge", "b_1"]}, {"late": [2], "early": [1, 0]}),
        (["0", "1_2_3", "1_2"], None, {"0": [0], "1_2": [1], "1": [2]}),
    ],
)
def test_columns_are_in_the_order_of_groups(
    ids: list[str], groups: dict[str, list[str]] | None, expected: dict[str, list[int]]
) -> None:
    """Default groups by first agent, an id without `_` by itself; configured ones and their agents as listed."""
    agents = [AgentSpec(i, Box("float32", (1,), (0.0,), (1.0,)), Discrete(2)) for i in ids]
    spaces = EnvironmentSpaces.build(agents, groups)
    assert {g.group_id: list(g.agents) for g in spaces.groups} == expected
    names = [c.name for c in RowSchema.of(spaces).columns if c.name.endswith("/reward")]
    assert names == [f"{group_id}/reward" for group_id in expected]
