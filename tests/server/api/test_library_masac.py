"""MASAC from Python: `create_population`, the training function with mutations, custom loops, saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpe2 import simple_speaker_listener_v4
from tests.support.members import assert_same_networks

from covey.envs.vector import SyncPettingZooVecEnv
from covey.errors import ConfigError, SpaceError
from covey_server import (
    Agent,
    HyperparameterConfig,
    MultiAgentReplayBuffer,
    Mutations,
    RLParameter,
    TournamentSelection,
    create_population,
    train_multi_agent_off_policy,
)

NET = {"latent_dim": 8, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [16]}}


def environments(continuous: bool = True) -> SyncPettingZooVecEnv:
    return SyncPettingZooVecEnv(
        [lambda: simple_speaker_listener_v4.parallel_env(continuous_actions=continuous, max_cycles=5)] * 4
    )


def population(env: SyncPettingZooVecEnv, **settings: Any) -> list[Agent]:
    return create_population(
        "MASAC",
        [env.single_observation_space(a) for a in env.agents],
        [env.single_action_space(a) for a in env.agents],
        NET,
        {"AGENT_IDS": env.agents, "BATCH_SIZE": 16, "LEARN_STEP": 10, "LR_ACTOR": 0.002, **settings},
        hp_config=HyperparameterConfig(
            lr_actor=RLParameter(min=1e-4, max=1e-2),
            lr_critic=RLParameter(min=1e-4, max=1e-2),
            batch_size=RLParameter(min=8, max=64),
            learn_step=RLParameter(min=5, max=20),
        ),
        population_size=2,
        num_envs=env.num_envs,
    )


@pytest.mark.parametrize(
    "mutation", [(0, 1, 0.5, 0, 0, 0), (0, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 1)], ids=["architecture", "weights", "rl_hp"]
)
def test_populations_train_evolve_and_are_kept(
    mutation: tuple[float, float, float, float, float, float], tmp_path: Path
) -> None:
    env = environments()
    members = population(env)
    assert [a.lr_actor for a in members] == [0.002] * 2 and members[0].algo == "MASAC"
    memory = MultiAgentReplayBuffer(500, ["obs", "action", "reward", "next_obs", "done"], env.agents)
    members, fitnesses = train_multi_agent_off_policy(
        env,
        "speaker_listener",
        "MASAC",
        members,
        memory,
        max_steps=120,
        evo_steps=60,
        tournament=TournamentSelection(2, True, 2),
        mutation=Mutations(*mutation),
        verbose=False,
    )
    assert [a.steps for a in members] == [[60, 120]] * 2 and len(fitnesses) == 2
    for agent in members:
        temperatures = [n.temperature for key, n in agent.unpacked().networks.items() if key.startswith("actor/")]
        assert all(t is not None and t.log_alpha != 0 and t.adam_steps > 4 for t in temperatures)
    # A custom loop: act, learn from a sample. The training function has closed its environments.
    agent = members[0]
    obs, _ = environments().reset(seed=1)
    actions, raw = agent.get_action(obs)
    assert all((np.abs(x - 0.5) <= 0.5).all() and np.array_equal(x, raw[a]) for a, x in actions.items())
    assert len(np.unique(actions["listener_0"], axis=0)) == 4
    before = agent.member.updates
    losses = agent.learn(memory.sample(16))
    assert set(losses) == {"critic_loss", "actor_loss", "ent_coef"} and agent.member.updates == before + 1
    assert np.isfinite(list(losses.values())).all() and losses["ent_coef"] > 0
    # Without exploration actions are the means'.
    agent.set_training_mode(False)
    one, other = (agent.get_action(obs)[0] for _ in range(2))
    assert all(np.array_equal(one[a], other[a]) for a in one)
    agent.save_checkpoint(tmp_path / "member")
    assert_same_networks(Agent.load(tmp_path / "member").unpacked(), agent.unpacked())


def test_discrete_actions_are_refused_by_name() -> None:
    with pytest.raises(
        SpaceError, match=r"^action of agent 'speaker_0': Discrete, expected a Box with MASAC; use MADD"
    ):
        population(environments(continuous=False))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ENT_COEF": -0.1}, "ent_coef"),
        ({"ENT_COEF": "automatic"}, "ent_coef"),
        ({"ENT_COEF": float("inf")}, "ent_coef"),
        ({"TARGET_ENTROPY": "low"}, "target_entropy"),
        ({"TARGET_ENTROPY": float("nan")}, "target_entropy"),
        ({"TARGET_ENTROPY": -2, "ENT_COEF": 0.5}, r"target_entropy: -2, expected it left out where ent_coef is a numb"),
    ],
)
def test_values_that_mean_nothing_are_refused_by_name(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        population(environments(), **settings)
