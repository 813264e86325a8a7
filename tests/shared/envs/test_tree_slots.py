"""Environments whose observations and actions are trees, as slots: in this process, in others, and vectorised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.tree_environments import MaskedTrees, ReadableTrees, TreeActions, Trees, TupleOfMaskedTrees

from covey.collect.finite import not_finite
from covey.envs.outside_bounds import OutsideBounds
from covey.envs.processes import AsyncSlots
from covey.envs.random_actions import random_actions, unmasked_actions
from covey.envs.reading import read_spaces
from covey.envs.repeats import ignored_seed
from covey.envs.sync_slots import SyncSlots
from covey.envs.vector import SyncPettingZooVecEnv
from covey.errors import ConfigError, EnvironmentLoadError, SpaceError
from covey.spaces import leaves


def test_leaves_that_are_left_out_are_read_past() -> None:
    for make, ignored, names in (
        (Trees, ["mission"], ["image", "inventory.0", "inventory.1", "where"]),
        (Trees, ["mission", "inventory.1", "image"], ["inventory.0", "where"]),
        (MaskedTrees, ["mission", "inventory"], ["image", "where"]),
        (TupleOfMaskedTrees, ["2", "1.0"], ["0", "1.1", "3"]),
    ):
        spaces = read_spaces(make(), ignored=ignored)
        assert [leaf.name for leaf in leaves(spaces.agents[0].observation)] == names
        assert spaces.agents[0].masked == (make is not Trees)
        slots = SyncSlots(make, spaces, 2)
        rng = np.random.default_rng(0)
        assert slots.reset([0, 1], [0, 1]) == []
        for _ in range(3):
            assert slots.step([0, 1], random_actions(slots, spaces, rng, [0, 1])) == []
        [seen] = slots.arrays.observation
        for leaf in leaves(spaces.agents[0].observation):
            assert seen[leaf.name].any(), leaf.name
        if "where" in names:
            assert seen["where"][1].tolist() == [[3, 0], [3, 1]]


def test_what_is_left_out_must_be_there() -> None:
    for make, ignored in ((Trees, "image.0"), (MaskedTrees, "action_mask"), (TupleOfMaskedTrees, "obs")):
        with pytest.raises(ConfigError, match=f"ignore_observations: '{ignored}', expected names"):
            read_spaces(make(), ignored=[ignored])
    with pytest.raises(SpaceError, match=r"observation of agent 'a_0', 2: space Text.*ignore_observations: \['2'\]"):
        read_spaces(TupleOfMaskedTrees())


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("image", np.zeros((3, 4), np.uint8), "observation image of agent 'a_0' is an array of shape (3, 4)"),
        ("where", np.zeros(3), "observation where of agent 'a_0' is an array of shape (3,)"),
        ("inventory", (1,), "without inventory.1"),
        ("inventory", None, "without inventory.0"),
    ],
)
def test_parts_of_another_form_are_named(key: str, value: Any, says: str) -> None:
    class Wrong(ReadableTrees):
        def observation(self, agent: Any) -> Any:
            return super().observation(agent) | {key: value}

    with pytest.raises(EnvironmentLoadError) as caught:
        read_spaces(Wrong())
    assert says in str(caught.value)


def test_actions_come_as_dictionaries_and_masks_as_they_do() -> None:
    spaces = read_spaces(TreeActions())
    assert spaces.agents[0].masked
    slots = SyncSlots(TreeActions, spaces, 2)
    assert slots.reset([0, 1], [0, 0]) == []
    mask = slots.arrays.mask[0]
    assert mask is not None
    assert mask[0, 0].tolist() == [1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    rng = np.random.default_rng(0)
    for _ in range(9):
        assert slots.step([0, 1], random_actions(slots, spaces, rng, [0, 1])) == []
    assert unmasked_actions(spaces.agents[0].action, rng, (5, 2))["use.0"].shape == (5, 2, 2, 2)


def test_worker_processes_show_the_same() -> None:
    for make in (ReadableTrees, TreeActions):
        spaces = read_spaces(make())
        here, there = SyncSlots(make, spaces, 2), AsyncSlots(make, spaces, 2, workers=2)
        try:
            for slots in (here, there):
                assert slots.reset([0, 1], [0, 1]) == []
                rng = np.random.default_rng(0)
                for _ in range(4):
                    assert slots.step([0, 1], random_actions(slots, spaces, rng, [0, 1])) == []
            assert here.arrays.memory.tobytes() == there.arrays.memory.tobytes()
        finally:
            there.close()
        assert ignored_seed(make, spaces) == ""


def test_numbers_are_watched_leaf_by_leaf() -> None:
    spaces = read_spaces(ReadableTrees())
    slots = SyncSlots(ReadableTrees, spaces, 1)
    slots.reset([0], [0])
    slots.arrays.observation[0]["where"][0, 1, 0] = 11
    [said] = OutsideBounds(spaces).look(slots.arrays)
    assert said == "observation where of agent 'a_1' is 11 at [0], expected -10 to 10 as its observation space says"
    slots.arrays.observation[0]["where"][0, 0, 1] = np.nan
    shown = slots.arrays.each(lambda a: a[None], slots.arrays.memory[None])
    assert not_finite(shown, [0], spaces)[0][1].startswith("observation where of agent 'a_0' is nan")


def test_vectorised_environments_give_trees_of_batches() -> None:
    env = SyncPettingZooVecEnv([ReadableTrees, ReadableTrees, ReadableTrees])
    seen, _ = env.reset(seed=0)
    assert seen["a_1"]["inventory"][1].shape == (3, 2, 2)
    before = seen
    for _ in range(10):
        before = seen
        seen, *_ = env.step({a: env.action_space(a).sample() for a in env.agents})
    assert env.observation_space("a_0").contains(seen["a_0"])
    assert before["a_0"]["where"][:, 0].tolist() == [9] * 3, "arrays are fresh in every call"
    assert (seen["a_0"]["where"][:, 0].tolist(), seen.final["a_0"]["where"][:, 0].tolist()) == ([0] * 3, [10] * 3)
    env.close()
    acting = SyncPettingZooVecEnv([TreeActions, TreeActions])
    acting.reset(seed=0)
    chosen = {"aim": np.zeros((2, 2)), "move": np.array([1, 3]), "use": (np.zeros((2, 2, 2)), np.ones((2, 2)))}
    acting.step({"a_0": chosen, "a_1": chosen})
    with pytest.raises(EnvironmentLoadError, match=r"actions of 'a_1': dict without use\.0"):
        acting.step({"a_0": chosen, "a_1": {**chosen, "use": {}}})
    acting.close()
