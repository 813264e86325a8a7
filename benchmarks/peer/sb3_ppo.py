"""PPO of stable-baselines3 in covey's simple_spread as arrays, for `time_to_score.py --peer`; prints one JSON object.

    PYTHON benchmarks/peer/sb3_ppo.py --out FOLDER [--layers 64 64 64] [--max-steps 400000] [--seed 0]

PYTHON is one with stable-baselines3 and what `covey` in shared/ needs. Every agent of every copy is one of the
library's environments, so that all share one network. Numbers are those of examples/ippo_spread.yaml; value networks
have no normalisation, as the library has none of returns alone. Policies are saved at the ends of rollouts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from covey.envs import build_slots, load_environment, read_spaces

ROLLOUT = 3200
"""Env steps between updates."""


class Agents(VecEnv):  # type: ignore[misc]
    """Every agent of every copy as one environment, copy by copy; all copies of this task end together."""

    slots: Any

    def __init__(self, copies: int, seed: int) -> None:
        factory = load_environment("covey.envs.mpe.simple_spread_v3", {})
        env: Any = factory()
        self.slots = build_slots(factory, read_spaces(env), copies)
        self.agents = len(env.possible_agents)
        agent = env.possible_agents[0]
        super().__init__(copies * self.agents, env.observation_space(agent), env.action_space(agent))
        self._copies, self._episodes = copies, np.random.default_rng(seed)
        self._infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]

    def reset(self) -> NDArray[np.float32]:
        """Begin an episode in all copies."""
        self.slots.reset_batch(range(self._copies), int(self._episodes.integers(1 << 30)))
        return self._seen()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take actions."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """Step all copies; episodes that are over begin anew, their last observations are in infos."""
        self.slots.step(range(self._copies), [self._actions.reshape(self._copies, self.agents)])
        reward = self.slots.arrays.reward.astype(np.float32).reshape(-1)
        seen = self._seen()
        if self.slots.arrays.living.any():
            return seen, reward, np.zeros(self.num_envs, bool), self._infos
        infos = [{"terminal_observation": last, "TimeLimit.truncated": True} for last in seen]
        return self.reset(), reward, np.ones(self.num_envs, bool), infos

    def close(self) -> None:
        """Close the copies."""
        self.slots.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return None for each: the library asks for a mode of rendering."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set nothing: nothing is asked for."""

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **keywords: Any) -> list[Any]:
        """Call nothing: nothing is asked for."""
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No environment is wrapped."""
        return [False] * self.num_envs

    def _seen(self) -> NDArray[np.float32]:
        seen: NDArray[np.float32] = self.slots.arrays.observation[0].reshape(self.num_envs, -1).copy()
        return seen


class Saved(BaseCallback):  # type: ignore[misc]
    """Saves the policy at the end of a rollout if the one before is old enough."""

    def __init__(self, out: Path, every_s: float, agents: int) -> None:
        super().__init__()
        self._out, self._every_s, self._agents, self._at = out, every_s, agents, -np.inf
        self._count = 0

    def save(self) -> None:
        """Write the layers; the file appears under its name when it is whole."""
        network = self.model.policy
        layers = [m for m in (*network.mlp_extractor.policy_net, network.action_net) if isinstance(m, torch.nn.Linear)]
        arrays = {"env_steps": np.array(self.num_timesteps // self._agents)}
        for i, layer in enumerate(layers):
            arrays |= {f"weight_{i}": layer.weight.detach().numpy(), f"bias_{i}": layer.bias.detach().numpy()}
        path = self._out / f"{self._count:08}.npz"
        with path.with_suffix(".tmp").open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        path.with_suffix(".tmp").rename(path)
        self._count, self._at = self._count + 1, time.monotonic()

    def _on_rollout_start(self) -> None:
        if time.monotonic() - self._at >= self._every_s:
            self.save()

    def _on_training_end(self) -> None:
        self.save()

    def _on_step(self) -> bool:
        return True


def main(argv: Sequence[str] | None = None) -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="existing folder for policies")
    parser.add_argument("--max-steps", type=int, default=400_000)
    parser.add_argument("--every-s", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, nargs="+", default=[64, 64], help="as the example's")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--minibatches", type=int, default=8, help="of an epoch")
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--copies", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    env = Agents(arguments.copies, arguments.seed)
    model = PPO(
        "MlpPolicy",
        env,
        learning_rate=arguments.lr,
        n_steps=ROLLOUT // arguments.copies,
        batch_size=ROLLOUT * env.agents // arguments.minibatches,
        n_epochs=arguments.epochs,
        gamma=0.95,
        gae_lambda=0.95,
        clip_range=0.2,
        ent_coef=0.01,
        max_grad_norm=0.5,
        policy_kwargs={"net_arch": arguments.layers, "activation_fn": torch.nn.Tanh},
        seed=arguments.seed,
        device="cpu",
    )
    start, cpu = time.perf_counter(), time.process_time()
    model.learn(arguments.max_steps * env.agents, callback=Saved(arguments.out, arguments.every_s, env.agents))
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    steps = model.num_timesteps // env.agents
    result = {"peer": "sb3_ppo", "layers": arguments.layers, "env_steps": steps, "wall_s": round(wall_s, 2)}
    rates = {"env_steps_per_s": round(steps / wall_s, 1), "env_steps_per_cpu_s": round(steps / cpu_s, 1)}
    print(json.dumps(result | rates))


if __name__ == "__main__":
    main()
