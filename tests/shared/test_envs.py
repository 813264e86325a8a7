"""Loading environments, reading their spaces, stepping slots."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.environments import CounterEnv, DictObservations, DiscreteObservations

from covey.envs import SyncSlots, allowed, load_environment, read_spaces
from covey.envs.loading import DEFAULT_ALLOWED
from covey.errors import ConfigError, EnvironmentLoadError, SpaceError
from covey.spaces import Box, Discrete, EnvironmentSpaces

COUNTER = "tests.environments:counter"


@pytest.mark.parametrize(
    ("entry_point", "config", "says"),
    [
        ("no_such_package.thing", {}, "no module 'no_such_package' is installed"),
        ("mpe2.simple_speaker_v9", {}, "no module 'mpe2.simple_speaker_v9' in package 'mpe2'"),
        ("tests.environments:countr", {}, "did you mean tests.environments:counter"),
        ("tests.environments", {}, "has no function 'parallel_env'"),
        ("mpe2.simple_v3; import os", {}, "expected package.module or package.module:function"),
        ("tests.environments:CounterEnv", {"lenght": 3}, "did you mean 'length'"),
        ("tests.environments:fails", {}, "raised OSError: no such map"),
        ("tests.environments:nothing", {}, "gives object without possible_agents"),
        ("tests.environments:aec", {}, "gives an AEC environment, expected a parallel one"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_sentence(entry_point: str, config: dict[str, object], says: str) -> None:
    with pytest.raises(EnvironmentLoadError, match=re.escape(says)) as caught:
        load_environment(entry_point, config)()
    assert "\n" not in str(caught.value)


def test_a_module_that_needs_what_is_not_installed_says_what(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import missing_dependency\n")  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentLoadError, match="'half_installed' needs 'missing_dependency'"):
        load_environment("half_installed", {})


def test_the_factory_travels_to_other_processes() -> None:
    factory = pickle.loads(pickle.dumps(load_environment(COUNTER, {"length": 3})))
    assert factory().length == 3


def test_spaces_in_environment_order_and_groups() -> None:
    spaces = read_spaces(CounterEnv())
    assert spaces.agent_ids == ("walker_0", "caller_0", "walker_1")
    assert {g.group_id: g.agents for g in spaces.groups} == {"walker": (0, 2), "caller": (1,)}
    assert spaces.agents[1].action == Discrete(4, 10)
    assert spaces.agents[0].action == Box("float32", (2,), (1.0, 1.0), (3.0, 3.0))
    explicit = read_spaces(CounterEnv(), {"a": ["walker_0"], "b": ["walker_1", "walker_0"][:1], "c": ["caller_0"]})
    assert [g.group_id for g in explicit.groups] == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"groups\.x"):
        read_spaces(CounterEnv(), {"x": ["walker_0", "caller_0"], "y": ["walker_1"]})


def test_unsupported_spaces_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"observation of agent 'walker_0'.*expected Box"):
        read_spaces(DiscreteObservations())
    with pytest.raises(SpaceError, match="expected Box or Discrete"):
        read_spaces(DictObservations())


def test_allow_list() -> None:
    assert allowed("mpe2.simple_v3", DEFAULT_ALLOWED)
    assert allowed("pettingzoo.butterfly.pistonball_v6:parallel_env", DEFAULT_ALLOWED)
    assert not allowed("mpe2", DEFAULT_ALLOWED)
    assert not allowed("mpe2_evil.simple", DEFAULT_ALLOWED)
    assert not allowed("os:system", DEFAULT_ALLOWED)
    assert not allowed("mpe2.x:os.system", DEFAULT_ALLOWED)
    assert allowed("tests.environments:counter", ("tests.environments",))
    assert allowed("tests.environments:counter", ("tests.environments:counter",))
    assert not allowed("tests.environments:aec", ("tests.environments:counter",))


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
    walkers, callers = slots.observation
    assert walkers[2].tolist() == [[9, 0, 0], [9, 0, 2]]
    assert callers[2].tolist() == [[9, 0, 1]]
    assert not walkers[1].any() and not slots.present[1].any(), "slot 1 was not asked to do anything"
    assert slots.step([0, 2], actions(3)) == []
    assert slots.reward[0].tolist() == [0.01, 2.01, 1.01], "columns stand group by group"
    assert slots.present[0].all() and not slots.truncated.any()
    slots.step([0], actions(3))
    assert slots.truncated[0].tolist() == [1, 1, 1] and not slots.terminated.any()
    assert not slots.present[0].any() and slots.present[2].all()
    assert walkers[0].tolist() == [[7, 2, 0], [7, 2, 2]]
    slots.reset([0], [8])
    assert walkers[0].tolist() == [[8, 0, 0], [8, 0, 2]]
    assert not slots.truncated.any() and not slots.reward[0].any()


def test_an_agent_that_ends_early_shows_its_last_observation_once() -> None:
    slots, _ = slots_of(1, length=4, walker_dies_at=2)
    slots.reset([0], [5])
    slots.step([0], actions(1))
    slots.step([0], actions(1))
    assert slots.terminated[0].tolist() == [0, 1, 0]
    assert slots.present[0].tolist() == [1, 0, 1]
    assert slots.observation[0][0].tolist() == [[5, 2, 0], [5, 2, 2]]
    slots.step([0], actions(1))
    assert slots.observation[0][0].tolist() == [[5, 3, 0], [0, 0, 0]]
    assert slots.terminated[0].tolist() == [0, 0, 0] and slots.reward[0].tolist() == [0.03, 0.0, 1.03]
    slots.step([0], actions(1))
    assert slots.truncated[0].tolist() == [1, 0, 1] and not slots.present[0].any()


def test_an_environment_that_raises_is_a_fault_of_its_slot_alone_and_is_rebuilt() -> None:
    slots, _ = slots_of(2, raise_at=2)
    slots.reset([0, 1], [1, 2])
    slots.step([0], actions(2))
    (fault,) = slots.step([0, 1], actions(2))
    assert (fault.slot, fault.message) == (0, "RuntimeError: broken in step 2")
    assert slots.observation[1][1].tolist() == [[2, 1, 1]]
    assert slots.reset([0], [3]) == []
    assert slots.step([0], actions(2)) == []
    assert slots.observation[1][0].tolist() == [[3, 1, 1]]


def test_agents_that_take_turns_are_refused() -> None:
    slots, _ = slots_of(1, blind_at=2)
    slots.reset([0], [1])
    slots.step([0], actions(1))
    with pytest.raises(EnvironmentLoadError, match="'caller_0' got no observation"):
        slots.step([0], actions(1))
