"""Plain PPO in JAX in covey's simple_spread as arrays, for `time_to_score.py --peer`; prints one JSON object.

    PYTHON benchmarks/peer/jax_ppo.py --out FOLDER [--layers 64 64] [--max-steps 400000] [--seed 0]

PYTHON is one with jax, optax and what `covey` in shared/ needs. Acting is one compiled call a step, an update another:
estimates, five epochs of eight minibatches, all of it. The environment is numpy's, as for everybody. Numbers are those
of examples/ippo_spread.yaml, but for the values, which have neither normalisation nor a clip; networks begin as those
of stable-baselines3 do. Policies are saved between updates, the first one before anything is compiled, so rates have
that in them.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from covey.envs import build_slots, load_environment, read_spaces

ROLLOUT, EPOCHS, MINIBATCHES = 3200, 5, 8
"""Env steps between updates; passes over them; minibatches of a pass."""
GAMMA, LAMBDA, CLIP, ENTROPY, VALUE = 0.95, 0.95, 0.2, 0.01, 0.5
OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.003, eps=1e-5))

Layers = list[tuple[Array, Array]]
"""Weights (outputs, inputs) and biases (outputs,)."""
Params = tuple[Layers, Layers]
"""The parameters that are trained: layers of the policy network, then layers of the value network."""


def layers(key: Array, sizes: list[int], gain: float) -> Layers:
    """Orthogonal weights; `gain` is that of the last layer."""
    made = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        scale = gain if i == len(sizes) - 2 else float(np.sqrt(2))
        weight = jax.nn.initializers.orthogonal(scale)(jax.random.fold_in(key, i), (outputs, inputs))
        made.append((weight, jnp.zeros(outputs)))
    return made


def network(made: Layers, x: Array) -> Array:
    """Apply layers, with tanh between them."""
    for i, (weight, bias) in enumerate(made):
        x = (x if i == 0 else jnp.tanh(x)) @ weight.T + bias
    return x


@jax.jit  # type: ignore[untyped-decorator]
def act(params: Params, key: Array, seen: Array) -> tuple[Array, Array, Array, Array]:
    """Sample actions; returns the next key, actions, their log-probabilities, and values."""
    key, draw = jax.random.split(key)
    logits = jax.nn.log_softmax(network(params[0], seen))
    action = jax.random.categorical(draw, logits)
    return key, action, jnp.take_along_axis(logits, action[:, None], 1)[:, 0], network(params[1], seen)[:, 0]


def loss(params: Params, batch: dict[str, Array]) -> Array:
    """PPO's loss of a minibatch."""
    logits = jax.nn.log_softmax(network(params[0], batch["seen"]))
    chosen = jnp.take_along_axis(logits, batch["action"][:, None], 1)[:, 0]
    ratio = jnp.exp(chosen - batch["log_prob"])
    advantage = (batch["advantage"] - batch["advantage"].mean()) / (batch["advantage"].std() + 1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
    entropy = -(jnp.exp(logits) * logits).sum(-1).mean()
    error = ((network(params[1], batch["seen"])[:, 0] - batch["target"]) ** 2).mean()
    return -gain - ENTROPY * entropy + VALUE * error


@functools.partial(jax.jit, donate_argnums=(0, 1))
def update(params: Params, state: Any, key: Array, rollout: dict[str, Array], after: Array) -> tuple[Params, Any]:
    """Learn from a rollout, each array (steps, environments, ...), given what is seen after it."""

    def back(carry: tuple[Array, Array], now: dict[str, Array]) -> tuple[tuple[Array, Array], Array]:
        advantage, value = carry
        delta = now["reward"] + GAMMA * value * (1 - now["over"]) - now["value"]
        advantage = delta + GAMMA * LAMBDA * (1 - now["over"]) * advantage
        return (advantage, now["value"]), advantage

    value = network(params[1], after)[:, 0]
    _, advantage = jax.lax.scan(back, (jnp.zeros_like(value), value), rollout, reverse=True)
    batch = rollout | {"advantage": advantage, "target": advantage + rollout["value"]}
    batch = {name: x.reshape(-1, *x.shape[2:]) for name, x in batch.items()}
    count = len(batch["target"])

    def step(carry: tuple[Params, Any], rows: Array) -> tuple[tuple[Params, Any], None]:
        params, state = carry
        change, state = OPTIMIZER.update(jax.grad(loss)(params, {n: x[rows] for n, x in batch.items()}), state)
        return (optax.apply_updates(params, change), state), None

    orders = jax.vmap(lambda k: jax.random.permutation(k, count))(jax.random.split(key, EPOCHS))
    (params, state), _ = jax.lax.scan(step, (params, state), orders.reshape(EPOCHS * MINIBATCHES, -1))
    return params, state


def save(out: Path, number: int, env_steps: int, policy: Layers) -> None:
    """Write a policy; the file appears under its name when it is whole."""
    arrays = {"env_steps": np.array(env_steps)}
    for i, (weight, bias) in enumerate(policy):
        arrays |= {f"weight_{i}": np.asarray(weight), f"bias_{i}": np.asarray(bias)}
    path = out / f"{number:08}.npz"
    with path.with_suffix(".tmp").open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    path.with_suffix(".tmp").rename(path)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="existing folder for policies")
    parser.add_argument("--max-steps", type=int, default=400_000)
    parser.add_argument("--every-s", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, nargs="+", default=[64, 64], help="as the example's")
    parser.add_argument("--copies", type=int, default=128)
    arguments = parser.parse_args()
    factory = load_environment("covey.envs.mpe.simple_spread_v3", {})
    env: Any = factory()
    slots: Any = build_slots(factory, read_spaces(env), arguments.copies)
    agent = env.possible_agents[0]
    width, actions = env.observation_space(agent).shape[0], int(env.action_space(agent).n)
    agents, copies = len(env.possible_agents), range(arguments.copies)
    policy_key, value_key, key = jax.random.split(jax.random.key(arguments.seed), 3)
    hidden = [width, *arguments.layers]
    params = layers(policy_key, [*hidden, actions], 0.01), layers(value_key, [*hidden, 1], 1.0)
    state = OPTIMIZER.init(params)
    episodes = np.random.default_rng(arguments.seed)
    steps = ROLLOUT // arguments.copies
    rollout = {
        name: np.zeros((steps, agents * len(copies)), np.float32) for name in ("reward", "over", "log_prob", "value")
    }
    rollout["action"] = np.zeros_like(rollout["reward"], np.int32)
    rollout["seen"] = np.zeros((*rollout["reward"].shape, width), np.float32)
    start, cpu, saved = time.perf_counter(), time.process_time(), -np.inf
    env_steps = number = 0
    slots.reset_batch(copies, int(episodes.integers(1 << 30)))
    observation = slots.arrays.observation[0].reshape(-1, width)
    while env_steps < arguments.max_steps:
        if time.monotonic() - saved >= arguments.every_s:
            save(arguments.out, number, env_steps, params[0])
            number, saved = number + 1, time.monotonic()
        for t in range(steps):
            rollout["seen"][t] = observation
            key, action, log_prob, value = act(params, key, rollout["seen"][t])
            rollout["action"][t], rollout["log_prob"][t], rollout["value"][t] = action, log_prob, value
            slots.step(copies, [rollout["action"][t].reshape(len(copies), agents)])
            rollout["reward"][t] = slots.arrays.reward.reshape(-1)
            rollout["over"][t] = over = not slots.arrays.living.any()  # all copies of this task end together
            if over:  # by the limit of time: the reward goes on by the value of what is seen last
                rollout["reward"][t] += GAMMA * np.asarray(act(params, key, observation)[3])
                slots.reset_batch(copies, int(episodes.integers(1 << 30)))
        key, draw = jax.random.split(key)
        params, state = update(params, state, draw, rollout, observation.copy())
        env_steps += ROLLOUT
    jax.block_until_ready(params)
    save(arguments.out, number, env_steps, params[0])
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    result = {"peer": "jax_ppo", "layers": arguments.layers, "env_steps": env_steps, "wall_s": round(wall_s, 2)}
    rates = {"env_steps_per_s": round(env_steps / wall_s, 1), "env_steps_per_cpu_s": round(env_steps / cpu_s, 1)}
    print(json.dumps(result | rates))


if __name__ == "__main__":
    main()
