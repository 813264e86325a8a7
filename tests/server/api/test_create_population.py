"""Tests of `create_population`: arguments that it uses, and arguments that it refuses because they would be ignored."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium import spaces
from tests.support.environments import CounterEnv

from covey.errors import ConfigError, SpaceError
from covey_server import Agent, create_population


@pytest.mark.parametrize(
    ("hyperparameters", "error"),
    [
        ({"AGENT_IDS": ["a_0"]}, "1 agents"),
        ({}, "AGENT_IDS: missing"),
        ({"AGENT_IDS": ["walker_0", "caller_0", "walker_1"], "LR_ACTR": 1}, "LR_ACTR"),
        ({"AGENT_IDS": ["walker_0", "caller_0", "walker_1"], "GAMMA": 2}, "gamma"),
    ],
)
def test_what_a_population_cannot_be_made_of(hyperparameters: dict[str, Any], error: str) -> None:
    env = CounterEnv()
    agents = env.possible_agents
    with pytest.raises(ConfigError, match=error):
        create_population(
            "MADDPG",
            [env.observation_space(a) for a in agents],
            [env.action_space(a) for a in agents],
            INIT_HP=hyperparameters,
        )


def spaces_of_counter() -> tuple[dict[str, Any], dict[str, Any]]:
    env = CounterEnv()
    agents = env.possible_agents
    return {a: env.observation_space(a) for a in agents}, {a: env.action_space(a) for a in agents}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"actor_network": object()}, "^actor_network: networks of your own"),
        ({"critic_network": object()}, "^critic_network: networks of your own"),
        ({"wrapper_kwargs": {"a": 1}}, "^wrapper_kwargs: no agent_wrapper"),
        ({"algo_kwargs": {"gamma": 0.5}, "INIT_HP": {"GAMMA": 0.9}}, "^algo_kwargs: gamma 0.5, but INIT_HP has GAMMA"),
        ({"algo_kwargs": {"gama": 0.5}}, "GAMA"),
    ],
)
def test_what_else_agilerls_function_takes_is_used_or_refused(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        create_population("MADDPG", *spaces_of_counter(), **arguments)


def test_further_hyperparameters_and_a_wrapper_reach_the_members() -> None:
    wrapped: list[tuple[Agent, str]] = []

    def wrap(agent: Agent, name: str) -> Agent:
        wrapped.append((agent, name))
        return agent

    pop = create_population(
        "MADDPG",
        *spaces_of_counter(),
        algo_kwargs={"gamma": 0.5},
        agent_wrapper=wrap,
        wrapper_kwargs={"name": "w"},
        population_size=2,
    )
    assert wrapped == [(agent, "w") for agent in pop]
    assert [agent.gamma for agent in pop] == [0.5, 0.5]


@pytest.mark.parametrize("where", ["observation", "action"])
def test_two_parts_of_one_name_are_refused(where: str) -> None:
    leaf = spaces.Box(-1, 1, (2,))
    twice = spaces.Dict({"hand.0": leaf, "hand": spaces.Tuple([leaf])})
    given = {"observation": leaf, "action": leaf, where: twice}
    with pytest.raises(SpaceError, match=f"^{where} of agent 'a_0': two entries have the dotted name 'hand.0'"):
        create_population("MADDPG", [given["observation"]], [given["action"]], INIT_HP={"AGENT_IDS": ["a_0"]})
