"""The MPE tasks as arrays keep the interface of batched environments, whatever slots, groups and arguments they get."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

import numpy as np
import pytest

from covey.envs import BatchedEnvironment, SlotArrays, build_slots, load_environment, read_spaces
from covey.envs.check import check_environment
from covey.envs.mpe import TASKS, simple_v3
from covey.errors import EnvironmentLoadError

COUNT = 6
PACKAGE = "covey.envs.mpe."


def slots_of(task: str, groups: dict[str, list[str]] | None = None, **config: Any) -> tuple[Any, Any]:
    factory = load_environment(PACKAGE + task, config)
    spaces = read_spaces(factory(), groups)
    return build_slots(factory, spaces, COUNT), spaces


def actions_of(spaces: Any, seed: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [
        rng.random((COUNT, len(g), *g.action.shape), np.float32)
        if g.action.shape
        else rng.integers(g.action.n, size=(COUNT, len(g)))
        for g in spaces.groups
    ]


def test_the_objects_have_the_interface_of_batched_environments() -> None:
    env: BatchedEnvironment = simple_v3.parallel_env(num_envs=3)
    assert env.count == 3 and not env.asynchronous and list(env.possible_agents) == ["agent_0"]
    env.attach(read_spaces(cast("Any", env)), SlotArrays.zeros(read_spaces(cast("Any", env)), 3))
    assert env.reset([], []) == [] and env.step([], [np.zeros((3, 1), np.int64)]) == []
    assert not env.arrays.living.any()


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("slots", [[0, 2, 5], [4, 3], [2, 3, 4], [5]])
def test_only_the_slots_given_move_and_as_they_would_with_all_others(
    task: str, continuous: bool, slots: list[int]
) -> None:
    all_of_them, spaces = slots_of(task, continuous_actions=continuous)
    some, _ = slots_of(task, continuous_actions=continuous)
    for env in (all_of_them, some):
        env.reset(range(COUNT), range(COUNT))
    for t in range(3):
        before = some.arrays.copy()
        all_of_them.step(range(COUNT), actions_of(spaces, t))
        some.step(slots, actions_of(spaces, t))
        rest = [s for s in range(COUNT) if s not in slots]
        for old, new, whole in zip(
            (*before.observation, before.reward, before.living),
            (*some.arrays.observation, some.arrays.reward, some.arrays.living),
            (*all_of_them.arrays.observation, all_of_them.arrays.reward, all_of_them.arrays.living),
            strict=True,
        ):
            assert (new[rest] == old[rest]).all() and (new[slots] == whole[slots]).all()
    some.reset(slots[:1], [99])
    all_of_them.reset(range(COUNT), [99] * COUNT)
    assert all(
        (a[slots[0]] == b[0]).all()
        for a, b in zip(some.arrays.observation, all_of_them.arrays.observation, strict=True)
    )


def test_groups_of_a_configuration_change_places_and_nothing_else() -> None:
    plain, spaces = slots_of("simple_spread_v3", N=4)
    groups = {"b": ["agent_2", "agent_0"], "a": ["agent_1", "agent_3"]}
    grouped, of_groups = slots_of("simple_spread_v3", groups, N=4)
    order = [a for group in of_groups.groups for a in group.agents]
    for env in (plain, grouped):
        env.reset(range(COUNT), range(COUNT))
    for t in range(25):
        (given,) = actions_of(spaces, t)
        plain.step(range(COUNT), [given])
        grouped.step(range(COUNT), [given[:, list(g.agents)] for g in of_groups.groups])
        seen = np.concatenate(grouped.arrays.observation, axis=1)
        assert (seen == plain.arrays.observation[0][:, order]).all()
        assert (grouped.arrays.reward == plain.arrays.reward[:, order]).all()
    assert plain.arrays.truncated.all() and not plain.arrays.living.any() and not plain.arrays.present.any()


@pytest.mark.parametrize("task", TASKS)
def test_a_reset_after_an_end_clears_what_the_episode_left(task: str) -> None:
    env, spaces = slots_of(task, max_cycles=2)
    env.reset(range(COUNT), range(COUNT))
    begun = env.arrays.copy()
    for t in range(2):
        assert env.arrays.living.all()
        env.step(range(COUNT), actions_of(spaces, t))
    assert env.arrays.truncated.all() and not env.arrays.terminated.any() and not env.arrays.living.any()
    env.reset(range(COUNT), range(COUNT))
    assert (env.arrays.memory == begun.memory).all()


@pytest.mark.parametrize("task", TASKS)
def test_episodes_drawn_together_begin_as_those_of_seeds_do(task: str) -> None:
    factory = load_environment(PACKAGE + task, {})
    spaces = read_spaces(factory())
    count = 4000
    env: Any = build_slots(factory, spaces, count)
    assert env.reset(range(count), range(count)) == []
    exact = env.arrays.copy()
    assert env.reset_batch(range(count), 7) == []
    together = env.arrays.copy()
    assert env.reset_batch(range(count), 7) == [] and (env.arrays.memory == together.memory).all()
    assert env.reset_batch([3, 1], 8) == []
    changed = (env.arrays.observation[-1] != together.observation[-1]).any(axis=(1, 2))
    assert set(np.flatnonzero(changed)) <= {1, 3} and changed.any()
    for one, other in zip(exact.observation, together.observation, strict=True):
        assert (one != other).any() or not one.any()
        assert np.abs(one.mean(axis=0) - other.mean(axis=0)).max() < 0.07
        assert np.abs(one.std(axis=0) - other.std(axis=0)).max() < 0.07
        assert np.abs(np.quantile(one, (0, 1), axis=0) - np.quantile(other, (0, 1), axis=0)).max() < 0.15


@pytest.mark.parametrize(
    ("task", "config", "sentence"),
    [
        ("simple_spread_v3", {"N": 0}, "N: 0, expected an integer of at least 1"),
        ("simple_spread_v3", {"N": -3}, "N: -3, expected"),
        ("simple_spread_v3", {"N": 2.0}, "N: 2.0, expected an integer"),
        ("simple_spread_v3", {"N": True}, "N: True, expected an integer"),
        ("simple_spread_v3", {"n": 3}, "unexpected keyword argument 'n'"),
        ("simple_spread_v3", {"local_ratio": 1.5}, "local_ratio: 1.5, expected a number from 0 to 1"),
        ("simple_spread_v3", {"local_ratio": "half"}, "local_ratio: 'half', expected"),
        ("simple_spread_v3", {"local_ratio": float("nan")}, "local_ratio: nan, expected"),
        ("simple_spread_v3", {"curriculum": 1}, "curriculum: 1, expected true or false"),
        ("simple_spread_v3", {"num_agent_neighbors": 0}, "num_agent_neighbors: 0, expected an integer of at least 1"),
        ("simple_spread_v3", {"render_mode": "human"}, "render_mode: 'human', expected null"),
        ("simple_speaker_listener_v4", {"benchmark_data": True}, "benchmark_data: True, expected false"),
        ("simple_speaker_listener_v4", {"max_cycles": 0}, "max_cycles: 0, expected an integer of at least 1"),
        ("simple_speaker_listener_v4", {"max_cycles": None}, "max_cycles: None, expected"),
        ("simple_speaker_listener_v4", {"continuous_actions": "yes"}, "continuous_actions: 'yes', expected true"),
        ("simple_speaker_listener_v4", {"dynamic_rescaling": None}, "dynamic_rescaling: None, expected true"),
        ("simple_speaker_listener_v4", {"N": 3}, "unexpected keyword argument 'N'"),
        ("simple_adversary_v3", {"num_landmark_neighbors": 1.5}, "num_landmark_neighbors: 1.5, expected an integer"),
        ("simple_tag_v3", {"num_good": 0}, "num_good: 0, expected an integer of at least 1"),
        ("simple_tag_v3", {"num_obstacles": -1}, "num_obstacles: -1, expected an integer of at least 0"),
        ("simple_world_comm_v3", {"num_food": 0}, "num_food: 0, expected an integer of at least 1"),
        ("simple_world_comm_v3", {"num_forests": "two"}, "num_forests: 'two', expected an integer of at least 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(task: str, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EnvironmentLoadError) as told:
        load_environment(PACKAGE + task, config)()
    assert sentence in str(told.value) and "\n" not in str(told.value)
    assert str(told.value).endswith("; correct environment.config")


def test_neither_mpe2_nor_pygame_nor_torch_is_loaded() -> None:
    """An actor that has none of them steps the tasks."""
    ask = (
        "import sys; sys.modules.update(dict.fromkeys(('mpe2', 'pygame', 'torch')))\n"  # importing them would fail
        "from covey.envs import BatchedEnvironment, SlotArrays, build_slots, load_environment, read_spaces\n"
        "from covey.envs.mpe import TASKS\n"
        "for task in TASKS:\n"
        "    make = load_environment('covey.envs.mpe.' + task, {})\n"
        "    slots = build_slots(make, read_spaces(make()), 2)\n"
        "    assert not slots.reset([0, 1], [0, 1]) and slots.arrays.living.all()\n"
        "    print(task)"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_covey_can_train_in_it(task: str) -> None:
    report = check_environment(load_environment(PACKAGE + task, {"continuous_actions": True}), steps=60)
    assert report.trainable and report.interface == "batched" and report.kind == "simultaneous"
    assert not report.behaviour.faults and not any("seed" in s for s in report.will)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name", [PACKAGE + "simple_spread_v3", PACKAGE + "simple_crypto_v3", "tests.support.environments:batched_counter"]
)
def test_how_many_copies_there_are_is_no_argument_of_the_configuration(name: str) -> None:
    with pytest.raises(EnvironmentLoadError, match=r"; leave that out of environment\.config, as"):
        load_environment(name, {"num_envs": 2})()
