"""Small populations of the library, for an environment that steps several copies."""

from __future__ import annotations

from typing import Any

from covey.envs.vector import PettingZooVecEnv
from covey_server import Agent, create_population

NET = {"latent_dim": 8, "encoder_config": {"hidden_size": [16]}, "head_config": {"hidden_size": [16]}}


def population(
    algo: str, env: PettingZooVecEnv[Any], size: int = 2, device: str = "cpu", **hyperparameters: Any
) -> list[Agent]:
    return create_population(
        algo,
        [env.single_observation_space(a) for a in env.agents],
        [env.single_action_space(a) for a in env.agents],
        NET,
        {"AGENT_IDS": env.agents, "BATCH_SIZE": 16, "LEARN_STEP": 4, **hyperparameters},
        population_size=size,
        num_envs=env.num_envs,
        device=device,
    )
