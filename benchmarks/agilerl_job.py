"""The page's job on AgileRL, for ratios: run by job.py in turn with ours, in AgileRL's own environment.

    PYTHON benchmarks/agilerl_job.py [--algo MADDPG | MATD3 | IPPO] [--max-steps 5000] [--evo-steps 2500]

PYTHON is one with agilerl 2.58.0, peft (which it does not import without) and mpe2. Env steps are those of training, of
the whole population, over the wall time of the whole call: acting, learning, evaluation, evolution. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from typing import Any

from agilerl.algorithms import IPPO, MADDPG, MATD3
from agilerl.algorithms.core.registry import HyperparameterConfig, RLParameter
from agilerl.components.replay_buffer import ReplayBuffer
from agilerl.hpo.mutation import Mutations
from agilerl.hpo.tournament import TournamentSelection
from agilerl.training.train_multi_agent_off_policy import train_multi_agent_off_policy
from agilerl.training.train_multi_agent_on_policy import train_multi_agent_on_policy
from agilerl.vector.pz_async_vec_env import AsyncPettingZooVecEnv

ENVIRONMENTS, POPULATION = 8, 4
NETWORK = {"encoder_config": {"hidden_size": [32, 32], "activation": "ReLU"}, "head_config": {"hidden_size": [32]}}


def settings(algorithm: str, learn_step: int | None) -> dict[str, Any]:
    """The page's hyperparameters and their ranges; a learn_step that is asked for stays as it is."""
    if algorithm == "IPPO":
        given = {"lr": 1e-3, "batch_size": 128, "gamma": 0.99, "gae_lambda": 0.95, "ent_coef": 0.05}
        ranges = {"lr": RLParameter(min=1e-4, max=1e-2)}
        return given | {"learn_step": learn_step or 2048, "hp_config": HyperparameterConfig(**ranges)}
    given = {"O_U_noise": True, "expl_noise": 0.1, "mean_noise": 0.0, "theta": 0.15, "dt": 0.01, "lr_actor": 0.001}
    given |= {"lr_critic": 0.001, "gamma": 0.95, "tau": 0.01, "batch_size": 32, "vect_noise_dim": ENVIRONMENTS}
    if algorithm == "MATD3":
        given["policy_freq"] = 2
    ranges = {name: RLParameter(min=1e-4, max=1e-2) for name in ("lr_actor", "lr_critic")}
    ranges["batch_size"] = RLParameter(min=8, max=512, dtype=int)
    if learn_step is None:
        ranges["learn_step"] = RLParameter(min=20, max=200, grow_factor=1.5, shrink_factor=0.75, dtype=int)
    return given | {"learn_step": learn_step or 100, "hp_config": HyperparameterConfig(**ranges)}


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", choices=["MADDPG", "MATD3", "IPPO"], default="MADDPG")
    parser.add_argument("--evo-steps", type=int, default=2_500)
    parser.add_argument("--max-steps", type=int, default=5_000, help="env steps per member")
    parser.add_argument("--learn-step", type=int, help="in place of the page's")
    arguments = parser.parse_args()
    module = importlib.import_module("mpe2.simple_speaker_listener_v4")
    env = AsyncPettingZooVecEnv([lambda: module.parallel_env(continuous_actions=True) for _ in range(ENVIRONMENTS)])
    env.reset()
    agents = list(env.agents)
    algorithm = {"MADDPG": MADDPG, "MATD3": MATD3, "IPPO": IPPO}[arguments.algo]
    population = algorithm.population(
        size=POPULATION,
        observation_space=[env.single_observation_space(a) for a in agents],
        action_space=[env.single_action_space(a) for a in agents],
        agent_ids=agents,
        net_config=NETWORK,
        device="cpu",
        **settings(arguments.algo, arguments.learn_step),
    )
    common: dict[str, Any] = {
        "env_name": "simple_speaker_listener_v4",
        "algo": arguments.algo,
        "pop": population,
        "max_steps": arguments.max_steps,
        "evo_steps": arguments.evo_steps,
        "eval_loop": 1,
        "selection_strategy": TournamentSelection(tournament_size=2, elitism=True, population_size=POPULATION),
        "mutation": Mutations(
            no_mutation=0.2,
            architecture=0.2,
            new_layer_prob=0.2,
            parameters=0.2,
            activation=0,
            rl_hp=0.2,
            mutation_sd=0.1,
            rand_seed=1,
            device="cpu",
        ),
        "verbose": False,
    }
    start = time.perf_counter()
    if arguments.algo == "IPPO":
        trained, _ = train_multi_agent_on_policy(env, **common)
    else:
        memory = ReplayBuffer(100_000, device="cpu")
        trained, _ = train_multi_agent_off_policy(env=env, memory=memory, learning_delay=1000, **common)
    wall_s = time.perf_counter() - start
    # What was stepped, not what was asked for: on-policy a generation is whole rollouts, and so is longer.
    env_steps = sum(agent.metrics.steps for agent in trained)
    result = {"peer": "agilerl", "algorithm": arguments.algo, "env_steps": env_steps, "wall_s": round(wall_s, 2)}
    print(json.dumps(result | {"env_steps_per_s": round(env_steps / wall_s, 1)}))


if __name__ == "__main__":
    main()
