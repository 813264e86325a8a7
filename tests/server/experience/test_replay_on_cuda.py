"""The replay memory on a GPU holds and gives what one on a CPU does; draws are the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from tests.support.replays import CASES, box, filled
from torch import Tensor

from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.replay import Replay
from covey_server.packing import counter_rng

pytestmark = pytest.mark.cuda

DEVICE = "cuda"
IDS, UPDATES = [0, 5, 9], [0, 1, 2]


@pytest.mark.parametrize("case", CASES)
def test_a_memory_on_a_gpu_holds_and_draws_what_one_on_a_cpu_does(case: str) -> None:
    spaces, _ = CASES[case]
    ours, theirs = (filled(spaces, 40, device=device) for device in (DEVICE, "cpu"))
    assert len(ours) == len(theirs) and ours.oldest_row == theirs.oldest_row
    held, expected = ours.step_rows(), theirs.step_rows()
    for dtype, rows in expected.items():
        assert torch.equal(held[dtype].cpu(), rows), dtype
    batches = []
    for replay, device in ((ours, DEVICE), (theirs, "cpu")):
        sizes = torch.tensor([8, 3, 5], device=device)
        batches.append(replay.sample(counter_rng.keys(3, IDS, UPDATES, device), sizes, 8))
    for x, y in zip(batches[0].tensors(), batches[1].tensors(), strict=True):
        assert x.device.type == DEVICE and x.dtype == y.dtype
        torch.testing.assert_close(x.cpu(), y)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32", "int64", "float16", "float64", "bool"])
def test_observations_of_every_dtype_are_kept_on_a_gpu(dtype: str) -> None:
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", Box(dtype, (3,), (0.0,) * 3, (1.0,) * 3), box(1))])
    columns = RowSchema.of(spaces).empty(9)
    columns["kind"][:] = [RowKind.STEP] * 8 + [RowKind.FINAL]
    columns["a/active"][:] = 1
    columns["a/observation"][:] = np.random.default_rng(0).integers(0, 2, columns["a/observation"].shape)
    replay = Replay(spaces, 100, 1 << 20, DEVICE)
    replay.insert(columns, [SlotStream(rows=9, steps=8)])
    keys = counter_rng.keys(3, [0], [0], DEVICE)
    (seen,) = replay.sample(keys, torch.tensor([64], device=DEVICE), 64).observation
    found = {tuple(row) for row in seen.reshape(-1, 3).cpu().tolist()}
    assert found == {tuple(map(float, row[0])) for row in columns["a/observation"][:8]}


@pytest.mark.parametrize(
    ("draw", "exact"),
    [
        (counter_rng.bits, True),
        (counter_rng.uniform, True),
        (partial(counter_rng.integers, high=1000), True),
        (counter_rng.normal, False),
        (counter_rng.gumbel, False),
    ],
)
def test_draws_on_a_gpu_are_those_on_a_cpu(draw: Callable[..., Tensor], exact: bool) -> None:
    here, there = (draw(counter_rng.keys(3, IDS, UPDATES, d), "a stream", 1000) for d in ("cpu", DEVICE))
    if exact:
        assert torch.equal(there.cpu(), here)
    else:
        torch.testing.assert_close(there.cpu(), here)
