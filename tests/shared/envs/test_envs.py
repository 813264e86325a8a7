"""Loading environments and reading their spaces."""

from __future__ import annotations

import pickle
import re
from typing import Any

import gymnasium
import pytest
from tests.support.environments import (
    CounterEnv,
    DictObservations,
    Moment,
    ScriptedEnv,
    TextObservations,
    rhythms,
)

from covey.envs import TurnsEnv, load_environment, read_spaces
from covey.envs.reading import grouping_warnings
from covey.errors import ConfigError, EnvironmentLoadError, SpaceError
from covey.spaces import Box, Discrete, from_gymnasium

COUNTER = "tests.support.environments:counter"


@pytest.mark.parametrize(
    ("entry_point", "config", "says"),
    [
        ("no_such_package.thing", {}, "no module 'no_such_package' is installed"),
        ("mpe2.simple_speaker_v9", {}, "no module 'mpe2.simple_speaker_v9' in package 'mpe2'"),
        ("tests.support.environments:countr", {}, "did you mean tests.support.environments:counter"),
        ("tests.support.environments", {}, "has no function 'parallel_env' or 'env'"),
        ("mpe2.simple_spread_v1", {}, "did you mean mpe2.simple_spread_v3?"),
        ("mpe2.simple_spred_v3", {}, "did you mean mpe2.simple_spread_v3?"),
        (
            "pettingzoo.butterfly.knights_archers_zombies_v10",
            {},
            "did you mean pettingzoo.butterfly.knights_archers_zombies_v11?",
        ),
        ("mpe2.simple_v3; import os", {}, "expected package.module or package.module:function"),
        ("tests.support.environments:CounterEnv", {"lenght": 3}, "did you mean 'length'"),
        ("tests.support.environments:fails", {}, "raised OSError: no such map"),
        ("tests.support.environments:nothing", {}, "gives object without possible_agents"),
        ("tests.support.environments:batched_counter", {"lenght": 3}, "did you mean 'length'"),
        (
            "tests.support.environments:half_batched",
            {},
            "without asynchronous, attach, expected an environment of the batched",
        ),
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
        read_spaces(TextObservations())
    with pytest.raises(EnvironmentLoadError, match=r"observation of agent 'walker_0': ndarray without x"):
        read_spaces(DictObservations())


def test_masks_must_fit_the_actions() -> None:
    env = ScriptedEnv(["a_0"], [Moment(["a_0"], ["a_0"])], dictionaries=True)
    env._actions["a_0"] = gymnasium.spaces.Discrete(4)
    with pytest.raises(SpaceError, match=r"observation of agent 'a_0': action_mask .* expected 4 numbers"):
        read_spaces(env)
    env._actions["a_0"] = gymnasium.spaces.Box(0, 1, (3,))  # type: ignore[assignment]
    with pytest.raises(SpaceError, match=r"agent 'a_0': action mask: for Box actions"):
        read_spaces(env)


def test_what_no_space_tells_is_seen_in_a_first_episode() -> None:
    spaces = read_spaces(rhythms())
    assert spaces.asynchronous, "the singer waits after the first step"
    assert [a.masked for a in spaces.agents] == [True] * 3, "the dancer has masks, and the others' spaces"
    assert not read_spaces(CounterEnv(walker_dies_at=2)).asynchronous, "who ended does not wait"
    in_dictionaries = read_spaces(ScriptedEnv(["a_0"], [Moment(["a_0"], ["a_0"])] * 200, dictionaries=True))
    assert in_dictionaries.agents[0].masked and not in_dictionaries.asynchronous
    assert in_dictionaries.agents[0].observation == Box("float32", (2,), (0.0, 0.0), (100.0, 100.0))


def test_groups_that_one_may_not_expect_are_told_by_check_env_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert grouping_warnings(read_spaces(CounterEnv()).agents) == []
    names = ["a_0", "a_1", "red_base", "leader"]
    env = ScriptedEnv(names, [Moment(names, names)] * 200)
    env._actions["a_1"] = gymnasium.spaces.Discrete(2)
    assert [g.group_id for g in read_spaces(env).groups] == ["a_0", "a_1", "red", "leader"]
    said = grouping_warnings(read_spaces(env).agents)
    assert len(said) == 3 and not caplog.records, "an actor, a learner and each command reads them"
    assert "agents a_0, a_1 have unequal spaces, so each is a group of its own" in said[0]
    assert "'red_base' does not end in an index (<group>_<index>), so its group is 'red'" in said[1]
    assert "'leader' does not end in an index" in said[2]


def test_environments_of_pettingzoo_mpe_are_those_of_mpe2(caplog: pytest.LogCaptureFixture) -> None:
    factories = [load_environment("pettingzoo.mpe.simple_push_v3", {}) for _ in range(2)]
    assert [f.entry_point for f in factories] == ["mpe2.simple_push_v3"] * 2
    (said,) = caplog.records
    assert said.getMessage().endswith("pettingzoo.mpe has become the package mpe2; taking mpe2.simple_push_v3")


def test_an_environment_without_a_parallel_form_is_played_in_turns() -> None:
    for name in (
        "pettingzoo.classic.tictactoe_v3",
        "pettingzoo.classic.tictactoe_v3:env",
        "tests.support.environments:aec",
    ):
        env = load_environment(name, {})()
        assert isinstance(env, TurnsEnv)
        assert read_spaces(env).asynchronous
    assert not isinstance(load_environment("pettingzoo.classic.rps_v2", {})(), TurnsEnv)


def test_a_space_of_the_old_package_gym_is_named() -> None:
    old: Any = type("Box", (), {"__module__": "gym.spaces.box", "__repr__": lambda self: "Box(3,)"})()
    with pytest.raises(SpaceError, match=r"space Box\(3,\) of the old package gym, expected one of gymnasium"):
        from_gymnasium(old, "action of agent 'a_0'")
