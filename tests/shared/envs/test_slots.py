"""Stepping slots: who acts, waits, appears and ends, and what the arrays show of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.environments import (
    CounterEnv,
    Moment,
    ScriptedEnv,
    rhythms,
)

from covey.envs import SlotArrays, SyncSlots, build_slots, load_environment, read_spaces
from covey.envs.batched import BatchedSlots
from covey.errors import EnvironmentLoadError
from covey.spaces import EnvironmentSpaces

COUNTER = "tests.support.environments:counter"


def slots_of(count: int, **config: object) -> tuple[SyncSlots, EnvironmentSpaces]:
    factory = load_environment(COUNTER, config)
    spaces = read_spaces(factory())
    return SyncSlots(factory, spaces, count), spaces


def actions(count: int) -> list[NDArray[Any]]:
    """Legal actions of the groups walker and caller."""
    return [np.full((count, 2, 2), 2.0, np.float32), np.full((count, 1), 11)]


def test_slots_stack_group_by_group_and_keep_the_true_last_observation() -> None:
    slots, _ = slots_of(3, length=2)
    assert slots.reset([0, 2], [7, 9]) == []
    walkers, callers = slots.arrays.observation
    assert walkers[2].tolist() == [[9, 0, 0], [9, 0, 2]]
    assert callers[2].tolist() == [[9, 0, 1]]
    assert not walkers[1].any() and not slots.arrays.present[1].any(), "slot 1 was not asked to do anything"
    assert slots.step([0, 2], actions(3)) == []
    assert slots.arrays.reward[0].tolist() == [0.01, 2.01, 1.01], "columns stand group by group"
    assert slots.arrays.present[0].all() and not slots.arrays.truncated.any()
    slots.step([0], actions(3))
    assert slots.arrays.truncated[0].tolist() == [1, 1, 1] and not slots.arrays.terminated.any()
    assert not slots.arrays.present[0].any() and slots.arrays.present[2].all()
    assert walkers[0].tolist() == [[7, 2, 0], [7, 2, 2]]
    slots.reset([0], [8])
    assert walkers[0].tolist() == [[8, 0, 0], [8, 0, 2]]
    assert not slots.arrays.truncated.any() and not slots.arrays.reward[0].any()


def test_an_agent_that_ends_early_shows_its_last_observation_once() -> None:
    slots, _ = slots_of(1, length=4, walker_dies_at=2)
    slots.reset([0], [5])
    slots.step([0], actions(1))
    slots.step([0], actions(1))
    assert slots.arrays.terminated[0].tolist() == [0, 1, 0]
    assert slots.arrays.present[0].tolist() == [1, 0, 1]
    assert slots.arrays.observation[0][0].tolist() == [[5, 2, 0], [5, 2, 2]]
    slots.step([0], actions(1))
    assert slots.arrays.observation[0][0].tolist() == [[5, 3, 0], [0, 0, 0]]
    assert slots.arrays.terminated[0].tolist() == [0, 0, 0] and slots.arrays.reward[0].tolist() == [0.03, 0.0, 1.03]
    slots.step([0], actions(1))
    assert slots.arrays.truncated[0].tolist() == [1, 0, 1] and not slots.arrays.present[0].any()


def test_an_environment_that_raises_is_a_fault_of_its_slot_alone_and_is_rebuilt() -> None:
    slots, _ = slots_of(2, raise_at=2)
    slots.reset([0, 1], [1, 2])
    slots.step([0], actions(2))
    (fault,) = slots.step([0, 1], actions(2))
    assert (fault.slot, fault.message) == (0, "RuntimeError: broken in step 2")
    assert slots.arrays.observation[1][1].tolist() == [[2, 1, 1]]
    assert slots.reset([0], [3]) == []
    assert slots.step([0], actions(2)) == []
    assert slots.arrays.observation[1][0].tolist() == [[3, 1, 1]]


def scripted(
    names: list[str], *moments: Moment, count: int = 1, dictionaries: bool = False, asynchronous: bool = True
) -> tuple[SyncSlots, list[ScriptedEnv]]:
    """Slots of scripted environments, and these, in the order in which they are built."""
    built: list[ScriptedEnv] = []

    def make() -> ScriptedEnv:
        built.append(ScriptedEnv(names, moments, dictionaries))
        return built[-1]

    spaces = read_spaces(make())
    built.clear()
    return SyncSlots(make, dataclasses.replace(spaces, asynchronous=asynchronous), count), built


def choose(slots: SyncSlots, *values: int) -> list[NDArray[Any]]:
    """The same actions, one per agent and group by group, in all slots."""
    arrays = iter(values)
    return [np.array([[next(arrays) for _ in range(o.shape[1])]] * slots.count) for o in slots.arrays.observation]


def test_agents_act_in_rhythms_of_their_own() -> None:
    env = rhythms()
    slots = SyncSlots(lambda: env, read_spaces(rhythms()), 1)
    arrays = slots.arrays
    drummer, singer, dancer = (o[0, 0] for o in arrays.observation)
    hers = arrays.mask[2]
    assert hers is not None

    def step(*values: int) -> None:
        assert slots.step([0], choose(slots, *values)) == []

    slots.reset([0], [1])
    assert arrays.present[0].tolist() == [1, 1, 0] and arrays.living[0].tolist() == [1, 1, 0]
    assert singer.tolist() == [0, 1] and dancer.tolist() == [0, 0] and hers[0, 0].tolist() == [0, 0, 0]

    step(1, 0, 2)
    assert env.given[-1] == {"drummer_0": 1, "singer_0": 0}
    assert arrays.present[0].tolist() == [1, 0, 0] and arrays.living[0].tolist() == [1, 1, 0]
    assert singer.tolist() == [0, 1], "who waits shows what it saw when it acted"
    assert arrays.reward[0].tolist() == [1.0, 0.5, 0.0]

    step(1, 0, 2)
    assert env.given[-1] == {"drummer_0": 1}
    assert arrays.reward[0].tolist() == [1.0, 0.25, 0.0], "who waits is rewarded"
    assert arrays.present[0].tolist() == [1, 0, 1] and dancer.tolist() == [2, 2]
    assert hers[0, 0].tolist() == [0, 1, 0]

    step(0, 2, 1)
    assert env.given[-1] == {"drummer_0": 0, "dancer_0": 1}
    assert arrays.present[0].tolist() == [1, 1, 0] and singer.tolist() == [3, 1]
    assert dancer.tolist() == [2, 2] and hers[0, 0].tolist() == [0, 1, 0], "its mask is repeated too"

    step(1, 1, 0)
    assert arrays.present[0].tolist() == [2, 0, 1] and arrays.forced[0][0, 0] == 2
    assert arrays.reward[0].tolist() == [0.0, 1.0, 2.0]

    step(1, 1, 1)
    assert env.given[-1] == {"drummer_0": 2, "dancer_0": 1}, "the environment's own action, not ours"
    assert arrays.terminated[0].tolist() == [0, 1, 0] and arrays.living[0].tolist() == [1, 0, 1]
    assert arrays.present[0].tolist() == [2, 0, 0] and singer.tolist() == [5, 1], "its true last observation"
    assert arrays.reward[0].tolist() == [0.0, -1.0, 0.0]

    step(1, 1, 1)
    assert env.given[-1] == {"drummer_0": 2}
    assert arrays.terminated[0].tolist() == [1, 0, 0] and arrays.truncated[0].tolist() == [0, 0, 1]
    assert not arrays.living.any() and not arrays.present.any()
    assert singer.tolist() == [0, 0] and dancer.tolist() == [6, 2] and drummer.tolist() == [6, 0]
    assert arrays.reward[0].tolist() == [4.0, 0.0, 8.0] and hers[0, 0].tolist() == [0, 0, 0]


def test_a_step_in_which_nobody_acts() -> None:
    both = ["a_0", "a_1"]
    slots, built = scripted(both, Moment(both, []), Moment(both, both, {"a_0": 1.0}))
    slots.reset([0], [0])
    assert slots.arrays.living[0].all() and not slots.arrays.present.any() and not slots.arrays.observation[0].any()
    assert slots.step([0], choose(slots, 0, 0)) == []
    assert slots.arrays.present[0].all() and slots.arrays.reward[0].tolist() == [1.0, 0.0]
    assert built[0].given == [{}]


def test_as_many_agents_as_before_may_be_others() -> None:
    names = ["a_0", "a_1", "a_2"]
    slots, _ = scripted(names, Moment(names[:2], names[:2]), Moment(names[1:], names[1:]), Moment(names[1:], names[1:]))
    slots.reset([0], [0])
    slots.step([0], choose(slots, 0, 0, 0))
    assert slots.arrays.truncated[0].tolist() == [1, 0, 0], "it left without a flag"
    assert slots.arrays.present[0].tolist() == [0, 1, 1]
    assert slots.arrays.observation[0][0].tolist() == [[0, 0], [1, 1], [1, 2]]


def test_agents_that_all_leave_without_flags_are_truncated() -> None:
    both = ["a_0", "a_1"]
    slots, _ = scripted(both, Moment(both, both), Moment([], both, terminated=["a_1"]))
    slots.reset([0], [0])
    slots.step([0], choose(slots, 0, 0))
    assert slots.arrays.truncated[0].tolist() == [1, 0] and slots.arrays.terminated[0].tolist() == [0, 1]
    assert not slots.arrays.living.any() and slots.arrays.observation[0][0].tolist() == [[1, 0], [1, 1]]


def test_masks_of_observations_come_before_those_of_infos_and_all_is_legal_without() -> None:
    infos = {a: {"action_mask": np.array([0, 0, 1], np.int8)} for a in ("a_0", "a_1")}
    both = ["a_0", "a_1"]
    slots, _ = scripted(both, Moment(both, both, masks={"a_0": [1, 0, 1]}, infos=infos), dictionaries=True)
    slots.reset([0], [0])
    assert slots.arrays.mask[0] is not None and slots.arrays.mask[0][0].tolist() == [[1, 0, 1], [1, 1, 1]]
    slots, _ = scripted(both, Moment(both, both, infos=infos), Moment(both, both, infos={"a_1": infos["a_1"]}))
    slots.reset([0], [0])
    assert slots.arrays.mask[0] is not None and slots.arrays.mask[0][0].tolist() == [[0, 0, 1]] * 2
    slots.step([0], choose(slots, 2, 2))
    assert slots.arrays.mask[0][0].tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_mask_that_allows_nothing_is_a_fault() -> None:
    nothing = {"a_0": {"action_mask": np.zeros(3)}}
    moments = [
        Moment(["a_0"], ["a_0"], infos={"a_0": {"action_mask": [1, 0, 0]}}),
        Moment(["a_0"], ["a_0"], infos=nothing),
    ]
    slots, _ = scripted(["a_0"], *moments)
    slots.reset([0], [0])
    (fault,) = slots.step([0], choose(slots, 0))
    assert fault.slot == 0 and "agent 'a_0' is to act, but its action_mask allows no action" in fault.message
    # Nobody chooses where the environment does.
    nothing["a_0"]["env_defined_actions"] = np.array(1)
    slots.reset([0], [0])
    assert slots.step([0], choose(slots, 0)) == [] and slots.arrays.present[0, 0] == 2


@pytest.mark.parametrize("value", [None, float("nan"), np.array([np.nan])])
def test_no_number_forces_nothing(value: object) -> None:
    moment = Moment(["a_0"], ["a_0"], infos={"a_0": {"env_defined_actions": value}})
    slots, built = scripted(["a_0"], moment, moment, moment)
    slots.reset([0], [0])
    assert slots.arrays.present[0, 0] == 1
    slots.step([0], choose(slots, 2))
    assert built[0].given == [{"a_0": 2}] and slots.arrays.present[0, 0] == 1


def test_forced_actions_of_every_shape_are_given_once_and_not_shared() -> None:
    spaces = read_spaces(CounterEnv())

    class Forcing(CounterEnv):
        def step(self, actions: dict[str, Any]) -> Any:
            *said, infos = super().step(actions)
            if self.count == 1:
                infos = {"walker_0": {"env_defined_actions": [1.5, 2.5]}, "caller_0": {"env_defined_actions": 12}}
            return *said, infos

    env = Forcing()
    slots = SyncSlots(lambda: env, spaces, 1)
    slots.reset([0], [0])
    for _ in range(3):
        assert slots.step([0], actions(1)) == []
    first, second, third = env.actions
    assert first["walker_0"].tolist() == third["walker_0"].tolist() == [2, 2] and first["caller_0"] == 11
    assert second["walker_0"].tolist() == [1.5, 2.5] and second["caller_0"] == 12
    assert second["walker_1"].tolist() == [2, 2]
    assert not np.shares_memory(second["walker_0"], slots.arrays.forced[0])


def test_an_agent_that_waits_unexpectedly_is_told() -> None:
    both = ["a_0", "a_1"]
    slots, _ = scripted(both, Moment(both, both), Moment(both, ["a_0"]), asynchronous=False)
    slots.reset([0], [0])
    with pytest.raises(EnvironmentLoadError, match="living agent 'a_1' got no observation"):
        slots.step([0], choose(slots, 0, 0))


def test_slots_write_into_arrays_that_they_are_given() -> None:
    spaces = read_spaces(CounterEnv())
    buffer = memoryview(bytearray(SlotArrays.size_bytes(spaces, 2)))
    slots = SyncSlots(CounterEnv, spaces, 2, SlotArrays.within(spaces, 2, buffer))
    slots.reset([0, 1], [3, 4])
    assert SlotArrays.within(spaces, 2, buffer).observation[1][:, 0].tolist() == [[3, 0, 1], [4, 0, 1]]


def test_a_batched_environment_is_the_slots_itself_and_equals_its_copies_one_by_one() -> None:
    config = {"length": 4, "walker_dies_at": 2}
    batched = load_environment("tests.support.environments:batched_counter", config)
    single = load_environment(COUNTER, config)
    assert batched.batched and not single.batched
    spaces = read_spaces(batched())
    assert spaces == read_spaces(single())
    ours, theirs = build_slots(single, spaces, 3), build_slots(batched, spaces, 3)
    assert isinstance(ours, SyncSlots) and isinstance(theirs, BatchedSlots)
    assert theirs.count == 3
    for slots in (ours, theirs):
        slots.reset([0, 1, 2], [5, 6, 7])
    equal(ours.arrays, theirs.arrays)
    for moving in ([0, 1, 2], [0, 2], [2], [0, 2], [1]):
        assert ours.step(moving, actions(3)) == theirs.step(moving, actions(3)) == []
        equal(ours.arrays, theirs.arrays)
    assert ours.arrays.living[2].tolist() == [0, 0, 0], "an episode ended on the way"
    for slots in (ours, theirs):
        slots.reset([2], [70000])
        slots.step([1, 2], actions(3))
    equal(ours.arrays, theirs.arrays)


def test_arrays_over_time_are_filled_by_copies_of_their_memory() -> None:
    spaces = read_spaces(CounterEnv())
    slots = SyncSlots(CounterEnv, spaces, 2)
    history = slots.arrays.over_time(3)
    slots.reset([0, 1], [3, 4])
    for t in range(3):
        history.memory[t] = slots.arrays.memory
        equal(history.at(t), slots.arrays)
        assert slots.step([0, 1], actions(2)) == []
    kept = slots.arrays.copy()
    equal(kept, slots.arrays)
    assert (history.observation[1][0] != history.observation[1][1]).any()
    assert (history.reward[0] == 0).all() and not np.shares_memory(kept.memory, slots.arrays.memory)


def equal(one: SlotArrays, other: SlotArrays) -> None:
    """Hold all arrays equal."""
    for name in (f.name for f in dataclasses.fields(SlotArrays)):
        a, b = getattr(one, name), getattr(other, name)
        for x, y in zip(*(v if isinstance(v, tuple) else (v,) for v in (a, b)), strict=True):
            np.testing.assert_array_equal(x, y, name)
