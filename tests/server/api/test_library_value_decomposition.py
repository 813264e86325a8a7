"""VDN, QMIX and PQN from Python: `create_population`, the training function, custom loops, saving and loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.members import assert_same_networks
from tests.support.two_step_game import TwoStepGame

from covey.envs.vector import SyncPettingZooVecEnv
from covey.errors import SpaceError
from covey_server import (
    Agent,
    MultiAgentReplayBuffer,
    Mutations,
    TournamentSelection,
    create_population,
    train_multi_agent_off_policy,
    train_multi_agent_on_policy,
)

NET = {"latent_dim": 8, "encoder_config": {"hidden_size": [8]}, "head_config": {"hidden_size": [8]}}


def population(algo: str, env: SyncPettingZooVecEnv) -> list[Agent]:
    return create_population(
        algo,
        [env.single_observation_space(a) for a in env.agents],
        [env.single_action_space(a) for a in env.agents],
        NET,
        {"AGENT_IDS": env.agents, "BATCH_SIZE": 16, "LEARN_STEP": 10, "LR": 0.002, "EPSILON_STEPS": 40},
        population_size=2,
        num_envs=env.num_envs,
    )


@pytest.mark.parametrize("algo", ["VDN", "QMIX"])
def test_populations_train_evolve_and_are_kept(algo: str, tmp_path: Path) -> None:
    env = SyncPettingZooVecEnv([TwoStepGame] * 4)
    members = population(algo, env)
    assert [a.lr for a in members] == [0.002] * 2 and members[0].algo == algo
    memory = MultiAgentReplayBuffer(500, ["obs", "action", "reward", "next_obs", "done"], env.agents)
    members, fitnesses = train_multi_agent_off_policy(
        env,
        "two_step_game",
        algo,
        members,
        memory,
        max_steps=120,
        evo_steps=60,
        tournament=TournamentSelection(2, True, 2),
        mutation=Mutations(0, 1, 0.5, 0, 0, 0),
        verbose=False,
    )
    assert [a.steps for a in members] == [[60, 120]] * 2 and len(fitnesses) == 2
    assert all(a.member.updates > 4 for a in members)
    # A custom loop: act, learn from a sample. The training function has closed its environments.
    agent = members[0]
    obs, _ = SyncPettingZooVecEnv([TwoStepGame] * 4).reset()
    actions, _ = agent.get_action(obs)
    assert {a: x.shape for a, x in actions.items()} == {"agent_0": (4,), "agent_1": (4,)}
    before = agent.member.updates
    losses = agent.learn(memory.sample(16))
    assert set(losses) == {"critic_loss"} and np.isfinite(losses["critic_loss"]) and agent.member.updates == before + 1
    # Without exploration all copies do the same.
    agent.set_training_mode(False)
    assert all(len(set(x.tolist())) == 1 for x in agent.get_action(obs)[0].values())
    agent.save_checkpoint(tmp_path / "member")
    assert_same_networks(Agent.load(tmp_path / "member").unpacked(), agent.unpacked())


def test_populations_of_pqn_train_on_policy_evolve_and_are_kept(tmp_path: Path) -> None:
    env = SyncPettingZooVecEnv([TwoStepGame] * 4)
    members = population("PQN", env)
    members, fitnesses = train_multi_agent_on_policy(
        env,
        "two_step_game",
        "PQN",
        members,
        max_steps=120,
        evo_steps=60,
        tournament=TournamentSelection(2, True, 2),
        mutation=Mutations(0, 1, 0.5, 0, 0, 0),
        verbose=False,
    )
    assert [a.steps for a in members] == [[60, 120]] * 2 and len(fitnesses) == 2
    assert all(a.member.updates == 12 and a.q_lambda == 0.65 for a in members), "a rollout is LEARN_STEP env steps"
    agent = members[0]
    obs, _ = SyncPettingZooVecEnv([TwoStepGame] * 4).reset()
    agent.set_training_mode(False)
    assert all(len(set(x.tolist())) == 1 for x in agent.get_action(obs)[0].values())
    agent.save_checkpoint(tmp_path / "member")
    assert_same_networks(Agent.load(tmp_path / "member").unpacked(), agent.unpacked())


def test_actions_that_it_cannot_learn_are_refused_by_name() -> None:
    from mpe2 import simple_spread_v3

    env = SyncPettingZooVecEnv([lambda: simple_spread_v3.parallel_env(continuous_actions=True)])
    with pytest.raises(SpaceError, match=r"^action of agent 'agent_0': Box, expected Discrete with QMIX; use MATD3"):
        population("QMIX", env)
