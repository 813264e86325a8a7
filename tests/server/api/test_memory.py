"""Policies with memory in the library: agents remember in loops of one's own, and are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.cue_environment import CueEnv

from covey import make_multi_agent_vect_envs
from covey.errors import ConfigError
from covey_server import create_population, train_multi_agent_on_policy
from covey_server.api.agents import Agent

NET_CONFIG = {"latent_dim": 8, "encoder_config": {"hidden_size": [8], "recurrent": True, "hidden_state_size": 6}}
AGENTS = CueEnv().possible_agents


def population(algorithm: str = "IPPO", size: int = 1) -> list[Agent]:
    game = CueEnv()
    return create_population(
        algorithm,
        [game.observation_space(a) for a in AGENTS],
        [game.action_space(a) for a in AGENTS],
        NET_CONFIG,
        {"AGENT_IDS": AGENTS, "LEARN_STEP": 64, "BATCH_SIZE": 32},
        population_size=size,
    )


def states(agent: Agent) -> NDArray[Any]:
    """(environments, agents, numbers)."""
    assert agent._acting is not None
    own = agent._acting._decisions.states
    return np.array([own.of(e) for e in range(agent._acting.environments)])


def test_vectorised_environments_say_where_episodes_begin() -> None:
    env = make_multi_agent_vect_envs(CueEnv, num_envs=3)
    (agent,) = population()
    try:
        obs, _ = env.reset(seed=1)
        after_one = None
        for step in range(7):
            actions, _ = agent.get_action(obs)
            if step == 0:
                after_one = states(agent)
            obs, *_ = env.step(actions)
        # Episodes have four steps: the fifth action is the first of an episode, the seventh its third.
        assert after_one is not None and np.abs(after_one).min() > 0
        held = states(agent)
        obs, _ = env.reset(seed=1)
        agent.get_action(obs)
        np.testing.assert_array_equal(states(agent), after_one)
        assert not np.array_equal(held, after_one)
    finally:
        env.close()


def test_with_other_environments_one_says_it() -> None:
    (agent,) = population()
    rng = np.random.default_rng(0)
    first, second = ({a: rng.uniform(-1, 1, (2, 2)).astype(np.float32) for a in AGENTS} for _ in range(2))
    agent.get_action(first)
    once = states(agent)
    agent.get_action(second)
    twice = states(agent)
    agent.reset_memory([0])
    assert not states(agent)[0].any() and np.array_equal(states(agent)[1], twice[1])
    agent.reset_memory()
    agent.get_action(first)
    np.testing.assert_array_equal(states(agent), once)
    # An agent that is left out waits, and remembers what it did.
    agent.get_action({AGENTS[0]: second[AGENTS[0]]})
    np.testing.assert_allclose(states(agent)[:, 0], twice[:, 0], atol=1e-6)
    np.testing.assert_array_equal(states(agent)[:, 1], once[:, 1])
    agent.reset_action_noise()
    assert states(agent).any(), "noise is not memory"


def test_populations_with_memory_are_trained() -> None:
    env = make_multi_agent_vect_envs(CueEnv, num_envs=4)
    trained, fitness = train_multi_agent_on_policy(
        env, "cue", "IPPO", population(size=2), max_steps=256, evo_steps=128, verbose=False
    )
    assert len(trained) == 2 and len(fitness) == 2 and all(agent.member.updates == 4 for agent in trained)


def test_off_policy_populations_refuse_memory() -> None:
    with pytest.raises(ConfigError, match="MADDPG trains policies without memory"):
        population("MADDPG")
