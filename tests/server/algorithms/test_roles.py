"""Which networks a fresh member has, and what they read and give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from covey.config import Config, parse_config
from covey.errors import SpaceError
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces, MultiBinary, MultiDiscrete, Space
from covey_server.algorithms import build_networks


def box(n: int, dtype: str = "float32") -> Box:
    return Box(dtype, (n,), (0.0,) * n, (1.0,) * n)


TEAM = EnvironmentSpaces.build(
    [
        AgentSpec("robot_0", Discrete(5), box(2)),
        AgentSpec("robot_1", Discrete(5), box(2)),
        AgentSpec("judge_0", MultiDiscrete((2, 4)), Discrete(3)),
    ],
    asynchronous=True,
)


def config(algorithm: str, shared: bool, **settings: Any) -> Config:
    return parse_config(
        {
            "algorithm": {"name": algorithm, "share_parameters": shared, **settings},
            "environment": {"name": "none"},
            "training": {},
        }
    )


def alone(observation: Space, action: Space) -> EnvironmentSpaces:
    return EnvironmentSpaces.build([AgentSpec("a_0", observation, action)])


def networks(algorithm: str, spaces: EnvironmentSpaces, shared: bool = False, **settings: Any) -> dict[str, Any]:
    return build_networks(config(algorithm, shared, **settings), spaces, np.random.default_rng(0))


@pytest.mark.parametrize("indicator", [False, True])
def test_policies_read_encoded_observations_and_which_of_their_agents_they_play(indicator: bool) -> None:
    for algorithm in ("MADDPG", "IPPO"):
        shared = networks(algorithm, TEAM, shared=True, agent_indicator=indicator)
        assert [i.width for i in shared["actor/robot"].spec.inputs] == [5 + 2 * indicator]
        assert [i.width for i in shared["actor/judge"].spec.inputs] == [6]
        assert (shared["actor/robot"].spec.outputs, shared["actor/judge"].spec.outputs) == (2, 3)
    own = networks("MADDPG", TEAM)
    assert {key for key in own if key.startswith("actor")} == {"actor/robot_0", "actor/robot_1", "actor/judge_0"}
    assert own["actor/robot_1"].spec.inputs[0].width == 5


@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3"])
def test_critics_read_all_actions_who_acts_and_whom_they_judge(algorithm: str) -> None:
    made = networks(algorithm, TEAM, shared=True, agent_indicator=True)
    role = "critic" if algorithm == "MADDPG" else "critic_2"
    robot, judge = made[f"{role}/robot"].spec, made[f"{role}/judge"].spec
    assert [(i.name, i.width, i.copies) for i in robot.inputs] == [("robot", 5, 2), ("judge", 6, 1)]
    assert (robot.extra, judge.extra) == (2 + 2 + 3 + 3 + 2, 2 + 2 + 3 + 3)
    together = EnvironmentSpaces.build(TEAM.agents)
    assert networks(algorithm, together, shared=True)[f"{role}/judge"].spec.extra == 2 + 2 + 3
    for network in made.values():
        assert all(np.array_equal(network.target[k], p) for k, p in network.params.items())


def test_values_of_ippo_are_of_what_an_agent_sees_itself_and_have_no_targets() -> None:
    made = networks("IPPO", TEAM, shared=True, action_std_init=-0.5)
    value, actor, judge = (made[k].spec for k in ("critic/robot", "actor/robot", "actor/judge"))
    assert (value.inputs[0].width, value.outputs, value.extra, value.log_std) == (5, 1, 0, None)
    assert (actor.log_std, judge.log_std) == (-0.5, None)
    assert all(n.target is None for n in made.values())


@pytest.mark.parametrize("action", [box(2), Discrete(3), MultiDiscrete((2, 3)), MultiBinary(2)])
@pytest.mark.parametrize("algorithm", ["MADDPG", "MATD3", "IPPO"])
def test_every_algorithm_learns_every_kind_of_action(algorithm: str, action: Space) -> None:
    made = networks(algorithm, alone(box(2), action))
    assert made["actor/a_0"].spec.outputs == action.width
    assert all(n.spec.extra == (0 if algorithm == "IPPO" else action.width) for k, n in made.items() if "critic" in k)


def test_integers_in_a_box_have_no_density() -> None:
    with pytest.raises(SpaceError, match="'a_0': Box of int32, expected floating-point"):
        networks("IPPO", alone(box(2), box(2, "int32")))
    assert networks("MADDPG", alone(box(2), box(2, "int32")))["actor/a_0"].spec.outputs == 2


def test_hyperparameters_that_evolve_are_those_that_the_algorithm_has() -> None:
    matd3, maddpg = config("MATD3", shared=False, policy_freq=3), config("MADDPG", shared=False)
    assert matd3.algorithm.initial_hyperparameters().numbers()["policy_freq"] == 3
    assert set(matd3.algorithm.evolvable) - set(maddpg.algorithm.evolvable) == {"policy_freq"}
