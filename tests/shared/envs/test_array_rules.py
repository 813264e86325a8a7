"""Array environments as people write them: each plays, or is refused by one sentence before anything is trained."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from gymnasium import spaces
from tests.support import broken_batches as broken
from tests.support import written_batches as written
from tests.support.environments import CounterEnv

from covey.collect import evaluate
from covey.envs import (
    Active,
    AgentArrays,
    BatchedEnvironment,
    Fault,
    SlotArrays,
    agent_arrays,
    build_slots,
    load_environment,
    read_spaces,
)
from covey.envs.check import check_environment
from covey.envs.random_actions import unmasked_actions
from covey.errors import EnvironmentLoadError
from covey.spaces import from_gymnasium

PLAYS = [
    *("Plain", "Images", "Bits", "Choices", "Board", "Turns", "Late", "Forced", "Breaks", "Raises", "Joint"),
    *("NotFinite", "Outside", "Trees"),
]

LEFT = r"left {} of agent '{}' in slot {} as it was, expected it written for every slot that {} is given"


def left(array: str, agent: str, slot: str, method: str) -> str:
    return f"{method} {LEFT.format(array, agent, slot, method)}"


WRITES_ELSEWHERE = {
    "OwnArrays": "self.arrays is another object after attach, expected what attach was given; set self.arrays",
    "NoArrays": "self.arrays is of type NoneType after attach, expected what attach was given",
    "OtherDtype": r"self.arrays is another object \(reward is float32 \(4, 2\), expected float64 \(4, 2\)\) after",
    "OtherShape": r"self.arrays is another object \(observation\[0\] is float32 \(4, 6\), expected float32 \(4, 2, 3\)",
    "RebindsReward": "step raised FrozenInstanceError: cannot assign to field 'reward', expected it to write into the",
    "RebindsGroup": "reset raised TypeError: 'tuple' object does not support item assignment, expected it to write",
    "OneCopy": "count is 1 where it is built with num_envs=4, expected 4; set self.count = num_envs",
    "LateCount": "count is 2 after attach, expected 4, the num_envs that it was built with",
    "AttachFails": "attach raised KeyError: 'walker'; repair it",
}

FORGETS = {
    "ResetLiving": left("living", "a_1", r"\d", "reset"),
    "ResetPresent": left("present", "a_1", "2", "reset"),
    "ResetReward": left("reward", "a_1", r"\d", "reset"),
    "ResetFlags": left("truncated", "a_0", r"\d", "reset"),
    "ResetObservation": left("observation", "a_1", "3", "reset"),
    "ResetBytes": left("observation", "a_1", r"\d", "reset"),
    "ResetMask": left("mask", "a_1", r"\d", "reset"),
    "StepReward": left("reward", "a_1", r"\d", "step"),
    "StepFlags": "step set living of agent 'a_1' in slot 1 to 0 without terminated or truncated, expected one of them",
    "StepObservation": left("observation", "a_0", "0", "step"),
    "StepBytes": left("observation", "a_1", "2", "step"),
    "StepBits": left("observation", "a_1", r"\d", "step"),
    "StepChoice": left("observation", "a_1", r"\d", "step"),
    "StepMask": left("mask", "a_1", "1", "step"),
    "AddsRewards": left("reward", "a_0", r"\d", "step"),
    "JointForgets": left("living", "a_0", r"\d", "reset_batch"),
    "ResetsHalf": r"step wrote a part of observation of agent 'a_0' in slot \d that reset had left as the episode",
    "TurnsLeft": r"reset left observation of agent 'a_1' in slot \d, which has not acted yet, expected zeros; clear",
}

OTHER_SLOTS = {
    "StepsAll": r"step wrote \w+ of agent 'a_0' in slot \d, expected slots [0-3, ]+ alone to be written",
    "ResetsAll": r"reset wrote \w+ of agent 'a_0' in slot \d, expected slots [0-3, ]+ alone",
    "ClearsRewards": r"step wrote reward of agent 'a_0' in slot \d, expected slots [0-3, ]+ alone",
    "JointResetsAll": r"reset_batch wrote \w+ of agent 'a_0' in slot \d, expected slots [0-3, ]+ alone",
}

RESETS_ITSELF = {
    "ResetsItself": r"step set terminated or truncated of agent 'a_0' in slot \d and left it living, expected living",
    "ResetsLater": r"step wrote living of agent 'a_0' in slot \d, expected slots [0-3, ]+ alone .* resets, or goes",
    "Revives": r"step set living of agent 'a_1' in slot \d to 1 after it had ended, expected 0 until reset",
}

ENDS = {
    "NoFlags": r"step set living of agent 'a_0' in slot \d to 0 without terminated or truncated, expected one of them",
    "Vanishes": r"step set living of agent 'a_1' in slot \d to 0 without terminated or truncated",
    "FlagsFirst": r"step set terminated or truncated of agent 'a_0' in slot \d and left it living",
    "KeepsFlags": r"step set terminated or truncated of agent 'a_1' in slot \d, which was not in the episode",
    "KeepsShowing": r"step left observation of agent 'a_1' in slot \d, which is not living, expected zeros; clear what",
    "KeepsMask": r"step left mask of agent 'a_1' in slot \d, which is not living, expected zeros; clear what agents",
    "EndsAtOnce": r"reset set terminated or truncated of agent 'a_0' in slot \d, expected 0 as an episode begins",
    "NobodyThere": r"living is 0 for all agents of slot \d after reset, expected 1 for those of the episode",
}

VALUES = {
    "WaitsUntold": r"reset set present of agent 'a_1' in slot \d to 0 while it is living, expected 1 as",
    "Ghosts": r"step set present of agent 'a_0' in slot \d, which is not living, expected 0",
    "Negative": r"step set living of agent 'a_0' in slot \d to 255, expected 0 or 1",
    "AllForbidden": r"step set mask of agent 'a_0' in slot \d to 0 for all actions, expected 1 for one at least",
    "WideMask": r"reset set mask of agent 'a_0' in slot \d to other numbers, expected 0 and 1 alone",
}

RETURNS = {
    "ReturnsNothing": r"step returned None, expected a list with a covey\.envs\.Fault for each slot that raised; end",
    "ReturnsResults": "reset returned something of type tuple, expected a list with a",
    "ReturnsSlots": r"step returned a list with '\d' in it, expected a list with a",
    "ReturnsTuple": "step returned something of type tuple, expected a list",
    "ReturnsOthers": r"step reported slot 7, expected one that it was given \([0-3, ]+\)",
    "JointReturnsNothing": "reset_batch returned None, expected a list",
}

REFUSED = WRITES_ELSEWHERE | FORGETS | OTHER_SLOTS | RESETS_ITSELF | ENDS | VALUES | RETURNS


def factory(name: str) -> Any:
    module = written if name in PLAYS else broken
    return load_environment(f"{module.__name__}:{name}", {})


@pytest.mark.parametrize("name", PLAYS)
def test_what_keeps_to_the_interface_is_taken(name: str) -> None:
    found = read_spaces(factory(name)())
    assert found.agent_ids == ("a_0", "a_1")


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_it_is_refused_by_one_sentence(name: str) -> None:
    with pytest.raises(EnvironmentLoadError, match=f"^environment[^:]*(:\\w+)?: {REFUSED[name]}") as refused:
        read_spaces(factory(name)())
    assert "\n" not in str(refused.value) and "; " in str(refused.value)


def test_a_leaf_that_is_forgotten_is_named() -> None:
    class Forgets(written.Trees):
        def see(self, n: int, agent: AgentArrays, slots: Any) -> None:
            agent.observation["time"][slots] = self.time[slots, None]

    with pytest.raises(EnvironmentLoadError, match=r"left observation image of agent 'a_0'.*\[group\]\['image'\]"):
        read_spaces(cast(Any, Forgets(4)))


@pytest.mark.parametrize("name", ["OtherShape", "StepReward", "ResetsItself", "ReturnsNothing"])
def test_check_env_says_the_same(name: str) -> None:
    with pytest.raises(EnvironmentLoadError) as refused:
        read_spaces(factory(name)())
    report = check_environment(factory(name), 50)
    assert report.cannot == (str(refused.value),) and report.behaviour is None


def test_every_written_class_is_looked_at() -> None:
    classes = {n: v for m in (written, broken) for n, v in vars(m).items() if isinstance(v, type)}
    assert {n for n, v in classes.items() if issubclass(v, written.Plain)} == {*PLAYS, *REFUSED, "Hangs"}


def test_numbers_that_nothing_can_learn_from_are_found_while_playing() -> None:
    report = check_environment(factory("NotFinite"), 50)
    assert report.cannot == (
        "observation of agent 'a_0' is infinite, no number, or too large to learn from; repair it",
    )
    outside = check_environment(factory("Outside"), 50)
    assert outside.trainable and any(s.startswith("bounds: agent 'a_0'") or "a_0" in s for s in outside.will)


def test_what_raises_is_reported_for_every_slot_that_was_to_move_and_goes_on_after_reset() -> None:
    found = read_spaces(factory("Raises")())
    slots = build_slots(factory("Raises"), found, 3)
    assert slots.reset([0, 1, 2], [1, 2, 3]) == []
    actions = [np.zeros((3, 2), np.int64)]
    assert slots.step([0, 1, 2], actions) == slots.step([0, 2], actions) == []
    lost = [Fault(s, "RuntimeError: lost the map") for s in (0, 1)]
    assert slots.step([0, 1], actions) == lost
    assert slots.reset([0, 1], [4, 5]) == slots.step([0, 1], actions) == []
    with pytest.raises(EnvironmentLoadError, match="raised in the episode of seed 3: RuntimeError: lost the map"):
        evaluate(factory("Raises"), found, [None, None], [3], 0, 1)
    report = check_environment(factory("Raises"), 50)
    assert report.cannot[0].startswith("raised 3 times in 6 env steps: RuntimeError: lost the map")


def test_a_batch_that_raises_now_and_then_in_one_slot_plays() -> None:
    report = check_environment(factory("Joint"), 50)
    assert report.trainable and report.will[0].startswith("reset_batch: training draws the episodes that begin")
    assert not any(s.startswith("reset_batch") for s in check_environment(factory("Plain"), 50).will)
    assert report.behaviour is not None and report.behaviour.timed.copies == 64
    assert report.behaviour.timed.steps == 6400 and report.behaviour.steps == 50
    assert check_environment(factory("Breaks"), 50).trainable, "slot 0 never raises"


def test_actions_drawn_at_once_are_within_their_spaces() -> None:
    rng = np.random.default_rng(0)
    kinds: list[Any] = [
        spaces.Discrete(4, start=10),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiBinary(3),
        spaces.Box(np.array([0, -np.inf], np.float32), np.array([np.inf, 1], np.float32)),
        spaces.Box(-3, 3, (2, 2), np.int16),
    ]
    for kind in kinds:
        drawn = unmasked_actions(from_gymnasium(kind, "action"), rng, (50, 3))
        assert drawn.shape == (50, 3, *kind.shape) and drawn.dtype == kind.dtype
        assert all(kind.contains(action[()]) for row in drawn for action in row)
        assert len({action.tobytes() for row in drawn for action in row}) > 3


def test_agents_arrays_are_views_of_the_groups_arrays() -> None:
    found = read_spaces(CounterEnv())
    arrays = SlotArrays.zeros(found, 3)
    views = agent_arrays(found, arrays)
    assert list(views) == ["walker_0", "caller_0", "walker_1"]
    assert [(v.group, v.index, v.column) for v in views.values()] == [(0, 0, 0), (1, 0, 2), (0, 1, 1)]
    views["walker_1"].observation[[0, 2]] = [1, 2, 3]
    views["caller_0"].reward[1] = 5
    views["walker_0"].present[:] = Active.CHOSE
    assert arrays.observation[0][2, 1].tolist() == [1, 2, 3] and arrays.reward[1].tolist() == [0, 0, 5]
    assert arrays.present.tolist() == [[1, 0, 0]] * 3
    walkers = np.arange(12).reshape(3, 2, 2)
    callers = np.array([[10], [11], [12]])
    assert views["walker_1"].actions([walkers, callers]).tolist() == [[2, 3], [6, 7], [10, 11]]
    assert views["caller_0"].actions([walkers, callers]).tolist() == [10, 11, 12]


def test_the_interface_is_public() -> None:
    env: BatchedEnvironment = written.Plain(2)
    assert env.count == 2 and all(getattr(BatchedEnvironment, name).__doc__ for name in ("attach", "reset", "step"))
