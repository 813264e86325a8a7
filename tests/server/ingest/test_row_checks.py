"""What the rows of a fragment hold: numbers that no honest actor sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.support.fragments import SCHEMA, SPACES, F, L, S, T, columns, fragment, order, refused

from covey.errors import FragmentError
from covey.rows import Active, Columns, RowSchema, leaf_columns
from covey.spaces import (
    AgentSpec,
    Box,
    DictSpace,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    Space,
    TupleSpace,
)
from covey.v1.fragment_pb2 import Fragment
from covey.wire.limits import MAX_REWARD
from covey_server.ingest.validation import check_fragment


def spoil(change: Callable[[Columns], None]) -> Fragment:
    streams = [[S, S, F, S, T], [L, S, S, T]]
    values = columns([k for s in streams for k in s])
    change(values)
    return fragment(streams, values)


def put(name: str, row: int, value: float) -> Callable[[Columns], None]:
    def change(values: Columns) -> None:
        values[name].reshape(len(values["kind"]), -1)[row, -1] = value

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["walker/observation", "speaker/reward", "walker/reward", "walker/action"])
@pytest.mark.parametrize("row", [0, 2, 8])
def test_numbers_that_are_none(column: str, value: float, row: int) -> None:
    assert refused(spoil(put(column, row, value))) == "not_finite"


@pytest.mark.parametrize("reward", [3.4e38, -3.4e38, 1e13, -1.0001e12])
@pytest.mark.parametrize("name", ["speaker/reward", "walker/reward"])
def test_rewards_too_large_to_learn_from(name: str, reward: float) -> None:
    assert refused(spoil(put(name, 0, reward))) == "not_finite"


def test_rewards_of_lead_in_rows_are_sums_over_their_age() -> None:
    def change(reward: float, age: int = 3) -> Callable[[Columns], None]:
        def age_and_reward(values: Columns) -> None:
            for group in ("speaker", "walker"):
                is_open = values[f"{group}/age"][5] > 0
                values[f"{group}/age"][5][is_open] = age
                values[f"{group}/reward"][5][is_open] = reward

        return age_and_reward

    for reward, age in ((3 * MAX_REWARD, 3), (-3 * MAX_REWARD, 3), (1000 * MAX_REWARD, 4_000_000_000)):
        check_fragment(spoil(change(reward, age)), order(), SCHEMA, SPACES)
    assert refused(spoil(change(1001 * MAX_REWARD, 4_000_000_000))) == "not_finite"
    assert refused(spoil(change(3.1 * MAX_REWARD))) == "not_finite"


def test_an_old_lead_in_row_does_not_excuse_a_large_reward_of_another_row() -> None:
    def change(values: Columns) -> None:
        for group in ("speaker", "walker"):
            values[f"{group}/age"][5][values[f"{group}/age"][5] > 0] = 4_000_000_000
        put("walker/reward", 6, 1e13)(values)

    assert refused(spoil(change)) == "not_finite"


def test_infinities_that_cancel_are_seen_and_large_numbers_pass() -> None:
    def change(values: Columns) -> None:
        values["walker/observation"][0, 0, :2] = np.inf, -np.inf

    assert refused(spoil(change)) == "not_finite"

    def huge(values: Columns) -> None:
        values["walker/observation"][:] = 3e38

    assert check_fragment(spoil(huge), order(), SCHEMA, SPACES).rows == 9


@pytest.mark.parametrize(("value", "taken"), [(3e38, True), (3.5e38, False), (-1e300, False), (np.nan, False)])
def test_numbers_that_networks_would_read_as_infinite(value: float, taken: bool) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec("a", Box("float64", (1,), (-np.inf,), (np.inf,)), Discrete(2))])
    schema = RowSchema.of(spaces)
    values = schema.empty(2)
    values["kind"][:] = S, T
    values["a/observation"][1] = value
    sent = Fragment(seq=1, order_id=77, schema_hash=schema.hash)
    sent.streams.add(slot=0, rows=2, steps=1)
    sent.blob, sent.raw_bytes = schema.encode(values, 1)
    if taken:
        assert check_fragment(sent, order(), schema, spaces).rows == 2
        return
    with pytest.raises(FragmentError) as caught:
        check_fragment(sent, order(), schema, spaces)
    assert caught.value.reason == "not_finite"


@pytest.mark.parametrize("active", [Active.ABSENT, Active.FORCED])
@pytest.mark.parametrize(
    "action",
    [
        Discrete(3, start=2),
        MultiDiscrete((2, 3)),
        MultiDiscrete((2, 3, 2, 2), (2, 2), (1, 0, 4, -1)),
        DictSpace((("go", Discrete(2)), ("say", TupleSpace((MultiDiscrete((2, 2)), MultiBinary(2)))))),
    ],
)
def test_rows_in_which_no_agent_with_a_mask_decides_are_taken(action: Space, active: Active) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec("a", Box("float32", (1,), (0.0,), (1.0,)), action, masked=True)])
    schema = RowSchema.of(spaces)
    values = schema.empty(2)
    values["kind"][:] = S, T
    for column, leaf in leaf_columns("a", "action", action):
        if isinstance(leaf, Discrete | MultiDiscrete):
            values[column][:] = np.reshape(leaf.start, leaf.shape)
    values["a/active"][:] = active
    sent = Fragment(seq=1, order_id=77, schema_hash=schema.hash)
    sent.streams.add(slot=0, rows=2, steps=1)
    sent.blob, sent.raw_bytes = schema.encode(values, 1)
    assert check_fragment(sent, order(), schema, spaces).rows == 2


@pytest.mark.parametrize(
    ("column", "value"),
    [("walker/active", 3), ("speaker/terminated", 2), ("walker/truncated", 255), ("walker/age", 1)],
)
def test_flags(column: str, value: int) -> None:
    assert refused(spoil(put(column, 0, value))) == "flags"


def lead_in(*rows: dict[str, int]) -> Fragment:
    """A stream with a lead-in row for each, which gives the ages of walker_0 (a), walker_1 (b) and speaker_0 (c)."""
    kinds = [*[L] * len(rows), S, T]
    values = columns([S, T, *kinds])
    for i, row in enumerate(rows, 2):
        values["walker/age"][i] = row.get("a", 0), row.get("b", 0)
        values["speaker/age"][i] = row.get("c", 0)
        values["walker/active"][i, 0] = row.get("acted", 1)
    return fragment([[S, T], kinds], values)


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1}],
        [{"a": 1, "b": 1, "c": 1}],
        [{"a": 900}, {"c": 8, "b": 8}],
        [{"c": 3}, {"b": 2}, {"a": 1}],
        [{"a": 2, "acted": 2}],
        [{"b": 2, "acted": 0}],
    ],
)
def test_lead_in_rows_with_ages_that_tell_of_open_decisions(rows: list[dict[str, int]]) -> None:
    assert check_fragment(lead_in(*rows), order(), SCHEMA, SPACES).streams[1].lead_in_rows == len(rows)


@pytest.mark.parametrize(
    "rows",
    [
        [{}],  # nobody's decision is open
        [{"a": 2}, {}],
        [{"a": 2, "b": 3}],  # made in the same row, so as old as each other
        [{"a": 2}, {"b": 2}],  # not in the same row, so not as old
        [{"a": 2}, {"b": 3}],  # oldest first
        [{"a": 3}, {"a": 2}],  # an agent has one open decision
        [{"a": 2, "acted": 0}],  # nothing was decided
    ],
)
def test_lead_in_rows_that_make_no_sense(rows: list[dict[str, int]]) -> None:
    assert refused(lead_in(*rows)) == "flags"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("walker/action", 2.001),
        ("walker/action", 0.999),
        ("walker/action", 0.0),
        ("speaker/action", 4),
        ("speaker/action", 8),
        ("speaker/action", -1),
    ],
)
@pytest.mark.parametrize("row", [0, 5])
def test_actions_outside_their_space(column: str, value: float, row: int) -> None:
    assert refused(spoil(put(column, row, value))) == "action_range"


def test_actions_may_be_anything_where_nobody_acts_and_off_by_rounding_where_somebody_does() -> None:
    def change(values: Columns) -> None:
        values["walker/active"][1, 1] = 0
        values["walker/action"][1, 1] = 0
        values["walker/action"][0, 0] = np.nextafter(np.float32(2), np.float32(3))

    assert check_fragment(spoil(change), order(), SCHEMA, SPACES).rows == 9


def test_samples_may_lie_outside_where_they_are_not_clipped_but_not_anywhere() -> None:
    def change(value: float) -> Callable[[Columns], None]:
        return put("walker/action", 0, value)

    def check(value: float) -> None:
        check_fragment(spoil(change(value)), order(), SCHEMA, SPACES, unclipped=True)

    for value in (-7.0, 2.001, 1.5 + 0.5e6, 1.5 - 0.5e6):  # the middle, plus a million times half the range
        check(value)
        assert refused(spoil(change(value))) == "action_range"
    for value, reason in ((0.51e6, "action_range"), (-0.51e6, "action_range"), (np.nan, "not_finite")):
        with pytest.raises(FragmentError) as caught:
            check(value)
        assert caught.value.reason == reason
    with pytest.raises(FragmentError, match="expected within"):
        check_fragment(spoil(put("speaker/action", 0, 8)), order(), SCHEMA, SPACES, unclipped=True)


# -- masks, and actions of several numbers --------------------------------------------------------------

SEEN = Box("float32", (1,), (-1.0,), (1.0,))
CHOOSING = EnvironmentSpaces.build(
    [
        AgentSpec("one_0", SEEN, Discrete(3, start=5), masked=True),
        AgentSpec("many_0", SEEN, MultiDiscrete((2, 3)), masked=True),
        AgentSpec("many_1", SEEN, MultiDiscrete((2, 3)), masked=True),
        AgentSpec("flip_0", SEEN, MultiBinary(2)),
    ]
)
CHOOSING_SCHEMA = RowSchema.of(CHOOSING)


def choosing(**cells: tuple[int, Any]) -> None:
    """Check a stream of two steps and a tail in which cells are changed: column=(row, value), "__" for "/"."""
    values = CHOOSING_SCHEMA.empty(3)
    values["kind"][:] = S, S, T
    for name in ("one", "many", "flip"):
        values[f"{name}/active"][:] = 1
    values["one/action"][:2] = 6
    values["one/action_mask"][:] = 0, 1, 1
    values["many/action"][:2] = 1, 2
    values["many/action_mask"][:] = 1, 1, 0, 0, 1
    for name, (row, value) in cells.items():
        values[name.replace("__", "/")][row] = value
    sent = Fragment(seq=1, order_id=77, schema_hash=CHOOSING_SCHEMA.hash)
    sent.streams.add(slot=0, rows=3, steps=2)
    sent.blob, sent.raw_bytes = CHOOSING_SCHEMA.encode(values, 1)
    check_fragment(sent, order(), CHOOSING_SCHEMA, CHOOSING)


@pytest.mark.parametrize(
    "cells",
    [
        {},
        {"one__action": (0, 7)},
        {"many__action": (1, [[0, 2], [1, 2]])},
        {"flip__action": (0, [[1, 0]])},
        # Nothing is asked of an agent that waits, nor of one for which the environment chooses.
        {"one__action_mask": (1, 0), "one__active": (1, 0)},
        {"one__action": (1, 5), "one__active": (1, 2)},
        {"one__action_mask": (2, 0), "one__active": (2, 0)},
    ],
)
def test_choices_that_are_legal(cells: dict[str, tuple[int, Any]]) -> None:
    choosing(**cells)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"one__action": (1, 5)}, "mask"),
        ({"one__action_mask": (1, [[1, 0, 1]])}, "mask"),
        ({"one__action_mask": (1, 2)}, "mask"),
        ({"one__action_mask": (1, 0)}, "mask"),
        ({"one__action_mask": (2, 0)}, "mask"),  # on a tail row, where it is to act
        ({"many__action": (0, [[1, 1], [1, 2]])}, "mask"),
        ({"many__action": (0, [[1, 2], [1, 0]])}, "mask"),
        ({"many__action_mask": (0, [[0, 0, 0, 0, 1], [1, 1, 0, 0, 1]])}, "mask"),  # nothing for the first choice
        ({"one__action": (1, 8)}, "action_range"),
        ({"one__action": (1, 4)}, "action_range"),
        ({"many__action": (0, [[2, 2], [1, 2]])}, "action_range"),
        ({"many__action": (0, [[1, 3], [1, 2]])}, "action_range"),
        ({"many__action": (0, [[-1, 2], [1, 2]])}, "action_range"),
        ({"flip__action": (0, [[2, 0]])}, "action_range"),
        ({"flip__action": (1, [[0, -1]])}, "action_range"),
    ],
)
def test_choices_that_are_not(cells: dict[str, tuple[int, Any]], reason: str) -> None:
    with pytest.raises(FragmentError) as caught:
        choosing(**cells)
    assert caught.value.reason == reason
