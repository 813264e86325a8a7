"""The state of the whole environment: in every row, in replay and in rounds; and environments that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from tests.support.moving import Moving

from covey.collect import Collector
from covey.envs import SyncSlots, read_spaces
from covey.errors import EnvironmentLoadError, FragmentError, SpaceError
from covey.rows import STATE, RowKind, RowSchema
from covey.v1 import order_pb2
from covey.v1.fragment_pb2 import Fragment
from covey.wire.messages import spaces_from_proto, spaces_to_proto
from covey.wire.spaces_json import spaces_from_json, spaces_to_json
from covey_server.experience.frames import stream_rows
from covey_server.experience.replay import Replay
from covey_server.experience.rollouts import Rollouts
from covey_server.ingest.validation import Accepted, check_fragment
from covey_server.packing import counter_rng


class Stated(Moving):
    """The state is the env step, and both points' places."""

    dtype: Any = np.int16

    def state(self) -> Any:
        return np.array([self._time, *self._place], self.dtype)


class Declared(Stated):
    state_space = Box(0, 100, (3,), np.int16)


class Truths(Stated):
    def state(self) -> Any:
        return np.array([[self._time % 2 == 0]])


class Growing(Stated):
    def state(self) -> Any:
        return np.zeros(3 + self._time // 3, np.int16)


class Changing(Stated):
    def state(self) -> Any:
        return np.zeros(3, np.float32 if self._time == 2 else np.int16)


class Wrong(Stated):
    state_space = Box(0, 100, (4,), np.int16)


class Words(Stated):
    def state(self) -> Any:
        return "lost"


class Raising(Stated):
    def state(self) -> Any:
        raise RuntimeError("no luck")


class Infinite(Stated):
    def state(self) -> Any:
        return np.array([np.inf if self._time == 5 else 0], np.float64)


def played(make: Any, frames: int = 1, orders: int = 3) -> tuple[Replay, Rollouts, list[Accepted]]:
    spaces = read_spaces(make(), frame_stack=frames, state=True)
    assert spaces_from_proto(spaces_to_proto(spaces)) == spaces == spaces_from_json(spaces_to_json(spaces))
    schema = RowSchema.of(spaces)
    replay, rollouts, taken = Replay(spaces, 1000, 1 << 24), Rollouts(spaces), []
    collector = Collector(SyncSlots(make, spaces, 2), spaces, schema, 2, compression_level=1)
    for number in range(orders):
        order = order_pb2.Order(order_id=number, noise_seed=number)
        order.policies.add(builtin="random")
        for slot in range(2):
            order.slots.add(slot=slot, steps=5, agent_policies=[0, 0], member_id=1, seed=2 * slot)
        fragment = collector.run(order, {})
        assert not fragment.faults, fragment.faults
        taken.append(check_fragment(fragment, order, schema, spaces))
        replay.insert(taken[-1].columns, fragment.streams)
        rollouts.insert(1, taken[-1].columns, taken[-1].streams, "actor")
        assert len(taken[-1].columns["kind"]) == sum(map(stream_rows, fragment.streams))
    return replay, rollouts, taken


@pytest.mark.parametrize("frames", [1, 3])
def test_rows_replay_and_rounds_hold_the_state(frames: int) -> None:
    replay, rollouts, taken = played(Stated, frames)
    for accepted in taken:
        for kind, state, image in zip(
            accepted.columns["kind"], accepted.columns[STATE], accepted.columns["watcher/observation"], strict=True
        ):
            if kind != RowKind.CONTEXT:
                assert state[1:].tolist() == [int(one.argmax(axis=1).max()) for one in image]
        final = accepted.columns["kind"] == RowKind.FINAL
        assert (accepted.columns[STATE][final][:, 0] == 8).all()

    keys = counter_rng.keys(0, [0], [0], torch.device("cpu"))
    batch = replay.sample(keys, torch.tensor([64]), 64)
    assert batch.state is not None and batch.next_state is not None and batch.state.shape == (1, 64, 3)
    # Integers with finite bounds are mapped to [0, 1], as observations are.
    time, after = ((x[0, :, 0] * (2**16 - 1) - 2**15).round() for x in (batch.state, batch.next_state))
    assert (after == time + 1).all() and time.min() == 0 and after.max() == 8
    assert len(batch.of(batch.tensors()).tensors()) == len(batch.tensors())

    for agent, its in enumerate(rollouts.take(1).agents):
        assert its.state is not None and its.state.dtype == np.int16
        newest = its.view if frames == 1 else its.view[:, -1]
        assert its.state[:, 1 + agent].tolist() == newest.argmax(axis=2).max(axis=1).tolist()
        assert (its.state[its.after, 0] == its.state[its.here, 0] + 1).all()


def test_spaces_of_states() -> None:
    declared = read_spaces(Declared(), state=True).state
    assert declared is not None and (declared.dtype, declared.shape, declared.high) == ("int16", (3,), (100.0,) * 3)
    truths = read_spaces(Truths(), state=True).state
    assert truths is not None and (truths.dtype, truths.shape, truths.high) == ("bool", (1, 1), (1.0,))
    played(Truths, orders=1)
    assert read_spaces(Stated()).state is None
    assert RowSchema.of(read_spaces(Stated())).hash == RowSchema.of(read_spaces(Moving())).hash


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (Moving, SpaceError, "has no state"),
        (Words, SpaceError, "expected an array of numbers"),
        (Wrong, SpaceError, "correct one of the two"),
        (Raising, EnvironmentLoadError, "RuntimeError: no luck; repair it"),
    ],
)
def test_environments_without_a_state_are_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        read_spaces(make(), state=True)


@pytest.mark.parametrize("make", [Growing, Changing])
def test_a_state_that_changes_is_refused(make: Any) -> None:
    with pytest.raises(EnvironmentLoadError, match=r"environment.state: state\(\) gives .* as at first"):
        played(make)


def test_a_state_that_is_not_finite_is_a_fault() -> None:
    with pytest.raises(AssertionError, match=r"state\(\) has a number that is not finite"):
        played(Infinite)


def test_a_fragment_with_such_a_state_is_refused() -> None:
    class Float(Stated):
        dtype = np.float32

    spaces = read_spaces(Float(), state=True)
    schema = RowSchema.of(spaces)
    columns = schema.empty(2)
    columns["kind"][:] = RowKind.STEP, RowKind.TAIL
    columns["watcher/active"][:] = 1
    columns[STATE][1, 2] = np.nan
    order = order_pb2.Order(order_id=1)
    order.policies.add(builtin="random")
    order.slots.add(slot=0, steps=1, agent_policies=[0, 0], member_id=1)
    fragment = Fragment(order_id=1, schema_hash=schema.hash)
    fragment.blob, fragment.raw_bytes = schema.encode(columns, 1)
    fragment.streams.add(slot=0, rows=2, steps=1)
    with pytest.raises(FragmentError, match="state: 1 of 6 numbers are not finite"):
        check_fragment(fragment, order, schema, spaces)
