"""Rows of spaces that are trees: columns on the wire, checks, replay, rounds, and what networks read of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from covey.errors import FragmentError
from covey.observations import ObservationEncoding
from covey.rows import RowKind, RowSchema, leaf_columns, read_leaves
from covey.spaces import (
    AgentSpec,
    Box,
    DictSpace,
    Discrete,
    EnvironmentSpaces,
    MultiBinary,
    MultiDiscrete,
    TupleSpace,
    leaf_arrays,
)
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.ingest.row_checks import check_values
from covey_server.packing import counter_rng

SEEN = DictSpace(
    (
        ("image", Box("uint8", (2, 2), (0.0,) * 4, (255.0,) * 4)),
        ("held", TupleSpace((Discrete(3, start=1), MultiDiscrete((2, 3, 2, 2), (2, 2), (0, 1, 0, 5)), MultiBinary(2)))),
        ("where", Box("float32", (2,), (-1.0,) * 2, (1.0,) * 2)),
    )
)
DOES = TupleSpace((Box("float32", (2,), (0.0,) * 2, (4.0,) * 2), Discrete(3, start=5), MultiDiscrete((2, 2))))
SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("a_0", SEEN, DOES, masked=True),
        AgentSpec("b_0", Box("float32", (1,), (-1.0,), (1.0,)), Discrete(2)),
        AgentSpec("a_1", SEEN, DOES, masked=True),
    ]
)
SCHEMA = RowSchema.of(SPACES)
A = SPACES.groups[0]


def rows(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    columns = SCHEMA.empty(count)
    columns["kind"][:] = [RowKind.STEP] * (count - 1) + [RowKind.TAIL]
    for name in ("a/active", "b/active", "a/action_mask"):
        columns[name][:] = 1
    columns["a/observation.image"][:] = rng.integers(0, 256, columns["a/observation.image"].shape)
    columns["a/observation.held.0"][:] = rng.integers(1, 4, (count, 2))
    columns["a/observation.held.1"][:] = rng.integers((0, 1, 0, 5), (2, 4, 2, 7), (count, 2, 4)).reshape(count, 2, 2, 2)
    columns["a/observation.held.2"][:] = rng.integers(0, 2, (count, 2, 2))
    columns["a/observation.where"][:] = rng.uniform(-1, 1, (count, 2, 2))
    columns["a/action.0"][:] = rng.uniform(0, 4, (count, 2, 2))
    columns["a/action.1"][:] = rng.integers(5, 8, (count, 2))
    columns["a/action.2"][:] = rng.integers(0, 2, (count, 2, 2))
    columns["b/observation"][:, 0, 0] = np.arange(count) / count
    return dict(columns)


def test_each_leaf_is_a_column_in_its_own_dtype() -> None:
    found = {c.name: (c.dtype, c.shape) for c in SCHEMA.columns if "/observation" in c.name or "/action" in c.name}
    assert found == {
        "a/observation.image": ("uint8", (2, 2, 2)),
        "a/observation.held.0": ("int64", (2,)),
        "a/observation.held.1": ("int64", (2, 2, 2)),
        "a/observation.held.2": ("int8", (2, 2)),
        "a/observation.where": ("float32", (2, 2)),
        "a/action.0": ("float32", (2, 2)),
        "a/action.1": ("int64", (2,)),
        "a/action.2": ("int64", (2, 2)),
        "a/action_mask": ("uint8", (2, 7)),
        "b/observation": ("float32", (1, 1)),
        "b/action": ("int64", (1,)),
    }
    assert [name for name, _ in leaf_columns("b", "observation", SPACES.groups[1].observation)] == ["b/observation"]


def encoded(columns: dict[str, Any], row: int) -> Any:
    seen = read_leaves(columns, "a", "observation", SEEN)[row]
    return ObservationEncoding.of(SEEN).encode(seen[:, None]).ravel()


def test_networks_read_the_leaves_one_after_another() -> None:
    value = np.zeros((), SEEN.dtype)
    image, first, several, switches, where = leaf_arrays(SEEN, value)
    image[...], first[...], several[...], switches[...], where[...] = 255, 2, [[1, 3], [0, 6]], [1, 0], [0.5, -0.5]
    read = ObservationEncoding.of(SEEN).encode(value.reshape(1, 1))
    one_hot = [0, 1, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1]
    assert read.tolist() == [[1, 1, 1, 1, *one_hot, 1, 0, 0.5, -0.5]]
    assert SEEN.width == read.shape[1]


def test_replay_gives_what_policies_read_and_one_joint_action() -> None:
    columns = rows(12)
    replay = Replay(SPACES, 100, 1 << 22)
    columns["a/action_mask"][3, 0] = [1, 0, 1, 1, 1, 1, 0]
    columns["a/action.1"][3, 0], columns["a/action.2"][3, 0] = 5, (0, 0)
    replay.insert(columns, [SlotStream(slot=0, rows=12, steps=11)])
    batch = replay.sample(counter_rng.keys(0, [0], [0]), torch.tensor([64]), 64)
    found = set()
    for b in range(64):
        row = round(float(batch.observation[1][0, b, 0]) * 12)
        found.add(row)
        np.testing.assert_allclose(batch.observation[0][0, b].numpy(), encoded(columns, row), rtol=1e-6)
        np.testing.assert_allclose(batch.next_observation[0][0, b].numpy(), encoded(columns, row + 1), rtol=1e-6)
        action, legal = [], []
        for n in (0, 1):
            aim, move, use = (columns[f"a/action.{i}"][row, n] for i in range(3))
            action.append(np.concatenate([aim / 2 - 1, np.eye(3)[move - 5], *np.eye(2)[use]]))
            legal.append(np.concatenate([[1, 1], columns["a/action_mask"][row, n]]))
        b_action = np.eye(2)[columns["b/action"][row, 0]]
        expected = np.concatenate([action[0], b_action, action[1]])
        np.testing.assert_allclose(batch.action[0, b].numpy(), expected, atol=1e-6)
        assert batch.legal is not None
        assert batch.legal[0, b].tolist() == np.concatenate([legal[0], [1, 1], legal[1]]).astype(bool).tolist()
    assert found == set(range(11))


def test_rounds_hold_whole_values() -> None:
    columns = rows(5)
    rollouts = Rollouts(SPACES)
    rollouts.insert(0, columns, [Stream(0, 0, 0, 5, 0, 4, False)], "actor")
    decisions = rollouts.take(0).agents[2]
    view: Any = decisions.view
    action: Any = decisions.action
    assert (view.dtype, action.dtype) == (SEEN.dtype, DOES.dtype)
    assert np.array_equal(view["image"], columns["a/observation.image"][:, 1])
    assert np.array_equal(action["2"], columns["a/action.2"][:4, 1])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("a/observation.where", np.nan, "not_finite"),
        ("a/action.0", 5.0, "action_range"),
        ("a/action.1", 4, "action_range"),
        ("a/action.2", 2, "action_range"),
        ("a/action_mask", 0, "mask"),
    ],
)
def test_what_no_honest_actor_sends_is_refused_by_the_leaf(column: str, value: float, reason: str) -> None:
    columns = rows(4)
    check_values(columns, SPACES, unclipped=False)
    columns[column][1, 1] = value
    with pytest.raises(FragmentError, match=column) as caught:
        check_values(columns, SPACES, unclipped=False)
    assert caught.value.reason == reason


def test_a_choice_is_looked_up_in_its_own_part_of_the_mask() -> None:
    columns = rows(4)
    columns["a/action.1"][1, 0], columns["a/action.2"][1, 0] = 7, (1, 0)
    columns["a/action_mask"][1, 0] = [0, 0, 1, 0, 1, 1, 0]
    check_values(columns, SPACES, unclipped=False)
    columns["a/action_mask"][1, 0] = [0, 0, 1, 1, 0, 1, 0]
    with pytest.raises(FragmentError, match="a choice that its action_mask does not allow"):
        check_values(columns, SPACES, unclipped=False)
