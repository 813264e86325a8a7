"""Environments of other interfaces become PettingZoo's: what agents see, earn and do, and who ends when."""

from __future__ import annotations

import logging
import pickle
import re
from importlib.metadata import EntryPoint
from typing import Any

import gymnasium
import numpy as np
import pytest
from tests.support.other_interfaces import OldGame, TupleGame

from covey.envs import load_environment, read_spaces
from covey.envs.adapters import adapter_of, installed
from covey.envs.adapters.adapted import idle_action
from covey.envs.adapters.foreign_spaces import as_gymnasium
from covey.envs.check import check_environment
from covey.envs.loading import _tell_adapted
from covey.errors import EnvironmentLoadError
from covey.spaces import Discrete

HERE = "tests.support.other_interfaces"


def built(function: str, **config: Any) -> Any:
    return load_environment(f"{HERE}:{function}", config)()


def played(env: Any, action: int) -> list[Any]:
    """What every step of an episode returned, with who was there afterwards."""
    env.reset(seed=3)
    steps = []
    while env.agents:
        steps.append((*env.step(dict.fromkeys(env.agents, np.int64(action))), list(env.agents)))
    return steps


@pytest.mark.parametrize("spaces", ["tuple", "list"])
def test_a_tuple_has_an_entry_for_each_agent(spaces: str) -> None:
    env = built("TupleGame", spaces=spaces)
    assert env.possible_agents == ["agent_0", "agent_1", "agent_2"]
    seen, _ = env.reset(seed=0)
    assert [seen[a].tolist() for a in env.agents] == [[0, 0], [0, 1], [0, 2]]
    seen, rewards, *_ = env.step({"agent_0": 1, "agent_1": 2, "agent_2": 3})
    assert rewards == {"agent_0": 1.0, "agent_1": 2.0, "agent_2": 3.0}
    assert seen["agent_2"].tolist() == [1, 2]
    assert len(played(env, 1)) == 4


def test_agents_of_a_tuple_may_have_unequal_shapes() -> None:
    env = built("TupleGame", spaces="unequal")
    spaces = read_spaces(env)
    assert [a.observation.shape for a in spaces.agents] == [(2,), (6,), (2, 1)]
    seen, _ = env.reset(seed=0)
    assert [seen[a].tolist() for a in env.agents] == [[0, 0], [0, 1] * 3, [[0], [2]]]
    seen, *_ = env.step(dict.fromkeys(env.agents, 2))
    assert [seen[a].tolist() for a in env.agents] == [[1, 0], [1, 1] * 3, [[1], [2]]]
    assert len(played(env, 1)) == 4
    check_environment(load_environment(f"{HERE}:TupleGame", {"spaces": "unequal"}), steps=20)


@pytest.mark.parametrize(("kind", "earned"), [("list", 2.0), ("info", 2.0), ("team", 7.0)])
def test_rewards_are_a_list_or_in_the_info_or_everybodys(kind: str, earned: float) -> None:
    for _, rewards, *_ in played(built("TupleGame", rewards=kind), 2):
        assert rewards == dict.fromkeys(["agent_0", "agent_1", "agent_2"], earned)


def test_an_agent_that_ends_first_leaves_and_the_environment_still_gets_an_action_of_it() -> None:
    env = built("TupleGame", flags="each")
    steps = played(env, 3)
    assert [there for *_, there in steps] == [["agent_0", "agent_1", "agent_2"]] * 2 + [["agent_1", "agent_2"], []]
    assert list(steps[-1][0]) == ["agent_1", "agent_2"]
    assert env.unwrapped.given[-1] == (1, 3, 3)


def test_a_dict_has_agents_by_its_keys() -> None:
    env = built("DictGame")
    assert env.possible_agents == ["agent_0", "agent_1"]
    steps = played(env, 1)
    assert [there for *_, there in steps] == [["agent_0", "agent_1"]] * 2 + [["agent_1"], []]
    assert steps[0][1] == {"agent_0": 1, "agent_1": 2}
    assert steps[3][0]["agent_1"].tolist() == [4, 1]
    assert [there for *_, there in played(built("DictGame", ends="__all__"), 1)][-1] == []


@pytest.mark.parametrize(("name", "agents"), [("CartPole-v1", 1), ("Pendulum-v1", 1), ("Blackjack-v1", 1)])
def test_gymnasiums_own_environments_have_one_agent(name: str, agents: int) -> None:
    env = load_environment(f"gymnasium:{name}", {})()
    assert len(env.possible_agents) == agents and env.possible_agents[0] == "agent_0"
    seen, _ = env.reset(seed=1)
    again = gymnasium.make(name).reset(seed=1)[0]
    assert np.array_equal(seen["agent_0"], again)


def test_masks_of_gymnasium_are_masks() -> None:
    spaces = read_spaces(
        load_environment("gymnasium:Taxi-v4", {})()
        if "Taxi-v4" in gymnasium.registry
        else load_environment("gymnasium:Taxi-v3", {})()
    )
    assert spaces.agents[0].masked


def test_the_old_gym_is_seeded_and_its_time_limit_is_a_truncation() -> None:
    env = built("OldGame")
    assert isinstance(env.unwrapped, OldGame)
    steps = played(env, 1)
    assert env.unwrapped.seeds == [3]
    assert [(s[2]["agent_0"], s[3]["agent_0"]) for s in steps] == [(False, False)] * 2 + [(False, True)]
    assert read_spaces(built("OldGame")).agents[0].action == Discrete(2)


def test_what_is_no_interface_is_told_the_same_by_reading_and_checking() -> None:
    with pytest.raises(EnvironmentLoadError, match="step gave 3 values, expected observation, reward, terminated"):
        read_spaces(built("ThreeValues"))
    report = check_environment(load_environment(f"{HERE}:ThreeValues", {}), 10)
    assert "step gave 3 values" in report.cannot[0] and len(report.cannot) == 1


def test_agents_and_spaces_may_be_known_only_after_a_reset() -> None:
    env = built("LateEnv")
    assert env.possible_agents
    assert read_spaces(built("LateEnv")) == read_spaces(load_environment("tests.support.environments:counter", {})())


def test_a_parameter_called_num_envs_proves_nothing() -> None:
    factory = load_environment(f"{HERE}:copies_of_nothing", {})
    assert not factory.batched
    assert factory().length == 3  # its own default  # type: ignore[attr-defined]
    assert load_environment("tests.support.environments:batched_counter", {}).batched


def test_gymnasiums_vectorised_environments_are_refused_in_one_sentence() -> None:
    with pytest.raises(EnvironmentLoadError, match="VectorEnv without possible_agents"):
        load_environment("gymnasium:make_vec", {"id": "CartPole-v1"})()


def test_an_adapter_is_said_once_and_in_the_report(caplog: pytest.LogCaptureFixture) -> None:
    _tell_adapted.cache_clear()
    factory = load_environment(f"{HERE}:TupleGame", {})
    with caplog.at_level(logging.INFO, "covey.envs"):
        factory(), factory(), load_environment(f"{HERE}:TupleGame", {})()
    assert caplog.messages == [
        f"environment {HERE}:TupleGame gives TupleGame, a gymnasium environment with Tuple spaces; adapted to "
        "PettingZoo"
    ]
    report = check_environment(factory, 20)
    assert report.trainable and report.api_test == "passed"
    assert "interface: it is a gymnasium environment with Tuple spaces, adapted to PettingZoo" in report.will


def test_a_strangers_adapter_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("plates", f"{HERE}:PLATES", installed.GROUP),
        EntryPoint("gone", "no_such:x", installed.GROUP),
    ]
    monkeypatch.setattr(installed, "entry_points", lambda group: entries)
    installed._strangers.cache_clear()
    try:
        factory = load_environment(f"{HERE}:plates", {})
        assert read_spaces(factory()).agents and factory.adapted == "a game of plates"
    finally:
        installed._strangers.cache_clear()
    monkeypatch.undo()
    with pytest.raises(EnvironmentLoadError, match="gives Plates without possible_agents"):
        load_environment(f"{HERE}:plates", {})()


def test_a_factory_goes_to_other_processes() -> None:
    factory = load_environment(f"{HERE}:TupleGame", {"length": 2})
    factory()
    assert len(played(pickle.loads(pickle.dumps(factory))(), 1)) == 2


def test_spaces_of_other_packages_are_gymnasiums() -> None:
    class Tuple:
        spaces = (OldGame.Box(), OldGame.Discrete())

    space = as_gymnasium(Tuple())
    assert space == gymnasium.spaces.Tuple([gymnasium.spaces.Box(0, 1, (1,), np.float32), gymnasium.spaces.Discrete(2)])
    assert as_gymnasium([OldGame.Discrete()]) == gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)])
    assert as_gymnasium("text") == "text" and adapter_of("text") is None


def test_an_idle_action_lies_in_its_space() -> None:
    spaces = gymnasium.spaces
    for space in (
        spaces.Discrete(3, start=-4),
        spaces.Box(1.0, 2.0, (2,), np.float32),
        spaces.MultiDiscrete([2, 3]),
        spaces.Dict({"a": spaces.MultiBinary(2), "b": spaces.Tuple([spaces.Discrete(2)])}),
    ):
        assert space.contains(idle_action(space))


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_gymnasium_id_is_named_by_the_package_that_registers_it() -> None:
    env: Any = load_environment(f"{HERE}:Plates-v1", {})()
    assert isinstance(env.unwrapped, TupleGame) and env.unwrapped.length == 2
    env = load_environment(f"{HERE}:Plates-v1", {"length": 6})()
    assert env.unwrapped.length == 6


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (f"{HERE}:Plate-v1", f"registers no gymnasium environment 'Plate-v1'; did you mean {HERE}:Plates-v1?"),
        (f"{HERE}:Elsewhere/Plates-v1", "is of package 'gymnasium', expected one of 'tests.support.other_interfaces'"),
        (f"{HERE}:CartPole-v1", "name it gymnasium:CartPole-v1"),
        ("gymnasium:os:Thing-v1", "expected package.module or package.module:function"),
        (f"{HERE}:Cupboard.ordinary", "has no function 'Cupboard.ordinary'"),
        (f"{HERE}:np.array", "has no function 'np.array'"),
        (f"{HERE}.np", "no module 'tests.support.other_interfaces.np'"),
        (f"{HERE}:Box.sample", "has no function 'Box.sample'"),
    ],
)
def test_a_name_leads_to_what_is_the_packages_own_and_to_nothing_else(name: str, says: str) -> None:
    with pytest.raises(EnvironmentLoadError, match=re.escape(says)) as caught:
        load_environment(name, {})
    assert "\n" not in str(caught.value)


def test_a_class_method_and_a_modules_other_name_are_names() -> None:
    env: Any = load_environment(f"{HERE}:Cupboard.opened", {"length": 2})()
    assert env.length == 2
    import tests.support

    tests.support.beside_v1 = tests.support.other_interfaces  # type: ignore[attr-defined]
    try:
        assert load_environment("tests.support.beside_v1:TupleGame", {})().possible_agents
    finally:
        del tests.support.beside_v1  # type: ignore[attr-defined]
