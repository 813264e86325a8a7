"""The actors of the benchmarks answer orders as real ones do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from covey.rows import RowKind
from covey.v1.environment_pb2 import EnvironmentSpec
from covey.v1.order_pb2 import Order
from covey_server.ingest.validation import check_fragment

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "synthetic" / "actors.py"


@pytest.fixture(scope="module")
def actors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic_actors", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_they_recorded_is_cut_to_the_order(actors: ModuleType) -> None:
    environment = EnvironmentSpec(entry_point="mpe2.simple_spread_v3", config_json='{"continuous_actions": true}')
    recording = actors.Recording(environment)
    # 25 is the length of an episode: the stream then ends with its last observation, without a tail.
    steps = [32, 1, 25, 24, 50, 7, 64, 32, 32, 3]
    order = Order(order_id=5, eval_steps=32)
    for slot, count in enumerate(steps):
        order.slots.add(slot=slot, steps=count, member_id=slot % 4)
    for i in range(4):
        order.policies.add(sha256=bytes([i]) * 32, member_id=i)
    order.evaluations.add(task_id=9, seeds=[3, 4], agent_policies=[0, 1, 2], member_id=1)
    fragment = recording.answer(order)
    accepted = check_fragment(fragment, order, recording.schema, recording.spaces)
    assert [s.steps for s in accepted.streams] == steps
    assert accepted.rows == len(accepted.columns["kind"])
    kinds = np.bincount(accepted.columns["kind"])
    trained = [e for e in fragment.episodes if not e.evaluation]
    assert kinds[RowKind.FINAL] == len(trained) == sum(n // 25 for n in steps)
    assert {e.length for e in trained} == {25}
    assert [(e.task_id, e.seed) for e in fragment.episodes if e.evaluation] == [(9, 3), (9, 4)]
    assert recording.answer(order).blob == fragment.blob
