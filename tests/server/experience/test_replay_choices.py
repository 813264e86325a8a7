"""What replay makes of actions of several choices and switches, and of their masks, against rows by hand."""

from __future__ import annotations

import torch

from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, EnvironmentSpaces, MultiBinary, MultiDiscrete
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.packing import counter_rng

SEEN = Box("float32", (1,), (-1.0,), (1.0,))
SPACES = EnvironmentSpaces.build(
    [
        AgentSpec("a_0", SEEN, MultiDiscrete((2, 3)), masked=True),
        AgentSpec("b_0", SEEN, MultiBinary(3)),
        AgentSpec("a_1", SEEN, MultiDiscrete((2, 3)), masked=True),
        AgentSpec("c_0", SEEN, Box("int8", (1,), (0.0,), (4.0,))),  # of the same dtype as switches
    ]
)


def one_step() -> Batch:
    columns = RowSchema.of(SPACES).empty(2)
    columns["kind"][:] = [RowKind.STEP, RowKind.FINAL]
    for group in "abc":
        columns[f"{group}/active"][0] = 1
    columns["a/action"][0] = [[1, 2], [0, 1]]
    columns["b/action"][0] = [[1, 0, 1]]
    columns["c/action"][0] = 3
    columns["a/action_mask"][0] = [[0, 1, 1, 0, 1], [1, 1, 0, 1, 0]]
    replay = Replay(SPACES, 4, 1 << 20)
    replay.insert(columns, [SlotStream(rows=2, steps=1)])
    return replay.sample(counter_rng.keys(0, [0], [0]), torch.tensor([2]), 2)


def test_choices_are_one_hot_each_and_switches_are_as_they_are() -> None:
    batch = one_step()
    assert batch.action[0, 0].tolist() == [0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0.5]


def test_a_mask_is_read_choice_by_choice_and_counts_as_free_where_nobody_acts() -> None:
    batch = one_step()
    assert batch.legal is not None and batch.next_legal is not None
    expected = [0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1]
    assert batch.legal[0, 0].tolist() == [bool(x) for x in expected]
    assert batch.next_legal[0, 0].all()
