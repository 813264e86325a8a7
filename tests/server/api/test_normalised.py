"""Normalised observations in the library: custom loops count what agents see, training functions count rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.scaled_environment import FAR, Scaled
from tests.support.small_populations import population

from covey.envs.vector import SyncPettingZooVecEnv
from covey.networks.normalisation import MEAN
from covey_server import (
    Agent,
    MultiAgentReplayBuffer,
    Mutations,
    TournamentSelection,
    train_multi_agent_off_policy,
    train_multi_agent_on_policy,
)

ENVIRONMENTS = 3


def environments() -> SyncPettingZooVecEnv:
    return SyncPettingZooVecEnv([Scaled] * ENVIRONMENTS)


def observed(agent: Agent) -> list[Any]:
    moments = [n.observed for key, n in agent.member.networks.items() if key.startswith("actor/")]
    assert all(m is not None for m in moments)
    return moments


def test_a_loop_of_ones_own_counts_what_agents_see_in_training(tmp_path: Path) -> None:
    env = environments()
    agent, other = population("MADDPG", env, NORMALIZE_OBSERVATIONS=True)
    memory = MultiAgentReplayBuffer(1000)
    obs, info = env.reset(seed=0)
    seen = []
    for _ in range(6):
        action, raw = agent.get_action(obs, info)
        seen.append({name: np.array(x) for name, x in obs.items()})
        after, reward, terminated, _, info = env.step(action)
        memory.save_to_memory(obs, raw, reward, after, terminated, is_vectorised=True)
        obs = after
    agent.set_training_mode(False)
    agent.get_action(obs, info)
    for i, moments in enumerate(observed(agent)):
        own = np.concatenate([step[f"scout_{i}"] for step in seen]).astype(np.float64)
        assert moments.count == 6 * ENVIRONMENTS == len(own)
        np.testing.assert_allclose(moments.mean, own.mean(0), rtol=1e-9, atol=1e-12)
    assert all(moments.count == 0 for moments in observed(other))
    assert (agent.policies()[0].params[MEAN] == 0).all(), "published before the first update"
    agent.learn(memory.sample(16))
    assert agent.policies()[0].params[MEAN][1] > FAR / 2
    assert [m.to_json() for m in observed(agent.clone())] == [m.to_json() for m in observed(agent)]
    agent.save_checkpoint(tmp_path / "kept")
    again = Agent.load(tmp_path / "kept")
    assert [p.sha256 for p in again.policies()] == [p.sha256 for p in agent.policies()]
    env.close()


@pytest.mark.parametrize("algo", ["MADDPG", "IPPO", "VDN", "QMIX"])
def test_training_functions_count_the_rows_of_members(algo: str) -> None:
    env = environments()
    learn_step = 12 if algo == "IPPO" else 4
    settings: dict[str, Any] = {"SCALE_REWARDS": True} if algo == "IPPO" else {}
    pop = population(algo, env, NORMALIZE_OBSERVATIONS=True, **{"LEARN_STEP": learn_step, **settings})
    arguments: dict[str, Any] = {
        "max_steps": 48,
        "evo_steps": 24,
        "eval_steps": 8,
        "verbose": False,
        "tournament": TournamentSelection(2, True, 2, 1),
        "mutation": Mutations(1, 0, 0, 0, 0, 0),
    }
    if algo == "IPPO":
        pop, _ = train_multi_agent_on_policy(env, "scaled", algo, pop, **arguments)
    else:
        pop, _ = train_multi_agent_off_policy(env, "scaled", algo, pop, MultiAgentReplayBuffer(500), **arguments)
    for agent in pop:
        shared = 1 if algo == "MADDPG" else 2  # agents of a policy
        for moments in observed(agent):
            # Those that arrived after the last update are not counted yet.
            assert 24 <= moments.count <= 48 * shared
            assert moments.mean[1] > FAR / 2
    env.close()
