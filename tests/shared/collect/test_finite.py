"""Environments that give numbers that are none: the episode is cut before them, and nothing of them travels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.counter_play import POLICIES, SCHEMA, SPACES, order, read, seed_of, seen
from tests.support.environments import CounterEnv
from tests.support.hostile_environment import HostileEnv

from covey.collect import Collector
from covey.envs import SyncSlots
from covey.rows import RowKind
from covey.v1 import fragment_pb2
from covey.v1.order_pb2 import Order

STEP, CUT, TAIL = RowKind.STEP, RowKind.CUT, RowKind.TAIL


def collector(*environments: CounterEnv, evaluation: int = 0) -> Collector:
    slots = SyncSlots([lambda e=e: e for e in environments], SPACES, len(environments))  # type: ignore[misc]
    return Collector(slots, SPACES, SCHEMA, len(environments) - evaluation, compression_level=1)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("nan", "observation of agent 'caller_0' is nan"),
        ("-inf", "observation of agent 'caller_0' is -inf"),
        ("reward", "reward of agent 'walker_1' is nan"),
    ],
)
def test_a_number_that_is_none_cuts_the_episode_before_it(how: str, says: str) -> None:
    c = collector(HostileEnv(how, at=3), CounterEnv(length=20))
    fragment = c.run(order({0: 5, 1: 5}), POLICIES)
    rows = read(fragment)
    assert rows[0]["kind"].tolist() == [STEP, STEP, CUT, STEP, STEP, CUT, STEP, TAIL]
    assert seen(rows[0])[2] == (seed_of(0, 0), 2) and seen(rows[0])[3] == (seed_of(0, 1), 0)
    assert all(np.isfinite(column).all() for column in rows[0].values())
    assert [(f.slot, f.message) for f in fragment.faults] == [(0, f"{says}, expected a finite number")] * 2
    assert rows[1]["kind"].tolist() == [STEP] * 5 + [TAIL] and seen(rows[1])[-1] == (seed_of(1, 0), 5)


def test_it_is_as_if_the_environment_had_raised() -> None:
    def play(how: str) -> list[Any]:
        c = collector(HostileEnv(how, at=3), CounterEnv(length=4))
        fragments = [c.run(order({0: 5, 1: 5}, order_id=i), POLICIES) for i in range(1, 6)]
        return [(f.streams, [(e.slot, e.returns, e.length) for e in f.episodes], f.shortfall) for f in fragments]

    assert play("nan") == play("raise")


def test_a_first_step_that_is_spoilt_every_time_gives_the_order_up() -> None:
    fragment = collector(HostileEnv("nan", at=1), CounterEnv()).run(order({0: 5}), POLICIES)
    assert fragment.shortfall == fragment_pb2.SHORTFALL_ENVIRONMENT
    assert len(fragment.faults) == 3 and not fragment.streams


def test_a_reset_that_is_spoilt_has_no_rows() -> None:
    class Spoilt(CounterEnv):
        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            seen, infos = super().reset(seed, options)
            return {a: o * np.nan for a, o in seen.items()}, infos

    fragment = collector(Spoilt()).run(order({0: 5}), POLICIES)
    assert fragment.shortfall == fragment_pb2.SHORTFALL_ENVIRONMENT and not fragment.streams


def test_a_spoilt_evaluation_names_its_seed() -> None:
    c = collector(CounterEnv(), HostileEnv("reward", at=2, length=4), evaluation=1)
    evaluation = Order(order_id=1, eval_steps=8)
    for sha256 in POLICIES:
        evaluation.policies.add(sha256=sha256)
    evaluation.evaluations.add(task_id=3, seeds=[5, 6], agent_policies=[0, 1, 2])
    fragment = c.run(evaluation, POLICIES)
    assert [(f.evaluation, f.task_id, f.seed) for f in fragment.faults] == [(True, 3, 5), (True, 3, 6)]
    assert not fragment.episodes and fragment.eval_steps == 2
