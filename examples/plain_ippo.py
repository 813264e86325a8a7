"""IPPO on one screen: one environment, one network after the other, plain PyTorch.

    .venv/bin/python examples/plain_ippo.py --env-steps 200000 --seed 0

Independent PPO (de Witt et al., 2020): every agent i learns by PPO (Schulman et al., 2017) as if it were alone. It has
a policy pi_i(a_i | o_i), a value V_i(o_i), and generalised advantage estimation (GAE, Schulman et al., 2016).

The environment is MPE's speaker and listener: the speaker sees which landmark is the goal, the listener sees the
landmarks and must go to the right one. Returns are those of an episode of 25 steps, summed over both agents: -73 for
random actions, -30 for a listener that takes no notice of the speaker. Independent learners stop there, as the
speaker's value does not see what its words lead to; critics that see everything (plain_matd3.py) go on to -12.

covey does the same for a whole population in batched operations, and its tests hold those to the functions here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from mpe2 import simple_speaker_listener_v4
from pettingzoo import ParallelEnv
from torch import Tensor, nn, optim
from torch.distributions import Distribution, Independent, Normal

GAMMA, GAE_LAMBDA = 0.9, 0.95
LEARNING_RATE = 0.003
ROLLOUT_STEPS = 1600  # env steps between two learning phases: 64 episodes
UPDATE_EPOCHS = 10  # passes through a rollout
BATCH_SIZE = 1600  # decisions of a minibatch
CLIP_COEF = 0.2  # PPO's epsilon
ENT_COEF, VF_COEF = 0.0, 0.5
MAX_GRAD_NORM = 0.5
LOG_STD = -0.5  # of a new policy, for actions in [-1, 1]
EVALUATION_EPISODES = 400  # fewer where training had fewer


def gae(
    r: Tensor, v: Tensor, next_v: Tensor, d: Tensor, last: Tensor, gamma: float | Tensor, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimation of successive decisions, all (T,) (GAE, equation 16).

    delta_t = r_t + gamma (1 - d_t) V(o_t+1) - V(o_t)
    A_t     = delta_t + gamma lambda A_t+1, where A_t+1 is 0 after the last decision of an episode

    d is 1 where the environment's rules ended the episode: where a time limit did, V of the final observation counts.
    """
    delta = r + gamma * (1 - d) * next_v - v
    decay = gamma * gae_lambda * (1 - last)
    advantage, following = torch.zeros_like(delta), delta.new_zeros(())
    for t in reversed(range(len(delta))):
        advantage[t] = following = delta[t] + decay[t] * following
    return advantage


def normalized(advantage: Tensor) -> Tensor:
    """The advantages of a minibatch, to mean 0 and standard deviation 1."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def minibatches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut indices into the fewest parts that are no larger than a batch; their sizes differ by one at most."""
    n, parts = len(order), -(-len(order) // batch_size)
    return [order[j * n // parts : (j + 1) * n // parts] for j in range(parts)]


def descend(loss: Tensor, optimizer: optim.Optimizer, max_grad_norm: float) -> None:
    """A step down the gradient, its norm bounded."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], max_grad_norm)
    optimizer.step()


def policy_update(
    policy: Callable[[Tensor], Distribution],
    optimizer: optim.Optimizer,
    o: Tensor,
    a: Tensor,
    old_log_prob: Tensor,
    advantage: Tensor,
    clip_coef: float = CLIP_COEF,
    ent_coef: float = ENT_COEF,
    max_grad_norm: float = MAX_GRAD_NORM,
) -> dict[str, float]:
    """Ascend L_CLIP + ent_coef H (PPO, equations 7 and 9); returns metrics.

    ratio  = pi(a | o) / pi_old(a | o)
    L_CLIP = mean min(ratio A, clip(ratio, 1 - epsilon, 1 + epsilon) A)
    H      = mean entropy of pi(. | o)
    """
    distribution = policy(o)
    log_ratio = distribution.log_prob(a) - old_log_prob
    ratio, entropy = log_ratio.exp(), distribution.entropy().mean()
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    loss = -torch.min(ratio * advantage, clipped * advantage).mean()
    descend(loss - ent_coef * entropy, optimizer, max_grad_norm)
    return {
        "policy_loss": loss.item(),
        "entropy": entropy.item(),
        "approx_kl": (ratio - 1 - log_ratio).mean().item(),  # k3 of http://joschu.net/blog/kl-approx.html
        "clip_fraction": ((ratio - 1).abs() > clip_coef).float().mean().item(),
    }


def value_update(
    value: Callable[[Tensor], Tensor],
    optimizer: optim.Optimizer,
    o: Tensor,
    old_v: Tensor,
    target: Tensor,
    clip_coef: float = CLIP_COEF,
    vf_coef: float = VF_COEF,
    max_grad_norm: float = MAX_GRAD_NORM,
) -> dict[str, float]:
    """Descend vf_coef L_V, L_V = 1/2 mean max((V - R)^2, (V_old + clip(V - V_old, -epsilon, epsilon) - R)^2).

    PPO's equation 9 has (V - R)^2 alone; the clipped form is that of OpenAI's code.
    """
    v = value(o)[:, 0]
    near = old_v + (v - old_v).clamp(-clip_coef, clip_coef)
    loss = 0.5 * torch.max((v - target).square(), (near - target).square()).mean()
    descend(vf_coef * loss, optimizer, max_grad_norm)
    return {"value_loss": loss.item()}


def mlp(inputs: int, outputs: int, gain: float) -> nn.Sequential:
    """Two hidden layers; `gain` scales what a new network says."""
    last = nn.Linear(64, outputs)
    nn.init.orthogonal_(last.weight, gain)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), last)


def gaussian(mean: Tensor, log_std: Tensor) -> Distribution:
    """Of actions (..., width), whose numbers are independent; their standard deviations are the same everywhere."""
    return Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


class Policy(nn.Module):
    """pi(. | o): Gaussian, its mean a network's."""

    def __init__(self, mean: nn.Module, outputs: int) -> None:
        super().__init__()
        self.mean, self.log_std = mean, nn.Parameter(torch.full((outputs,), LOG_STD))

    def forward(self, o: Tensor) -> Distribution:
        """The distributions of actions at observations (..., width)."""
        return gaussian(self.mean(o), self.log_std)


class Agent:
    """A policy and a value, each with an optimizer."""

    def __init__(self, policy: nn.Module, value: nn.Module) -> None:
        self.policy, self.value = policy, value
        self.policy_optimizer = optim.Adam(policy.parameters(), LEARNING_RATE)
        self.value_optimizer = optim.Adam(value.parameters(), LEARNING_RATE)


def update(agent: Agent, rollout: list[Tensor]) -> dict[str, float]:
    """Learn from a rollout: o, a, r, d, last, next o, (T, ...) each; returns the last minibatch's metrics."""
    o, a, r, d, last, next_o = rollout
    with torch.no_grad():
        old_log_prob = agent.policy(o).log_prob(a)
        old_v, next_v = agent.value(o)[:, 0], agent.value(next_o)[:, 0]
    advantage = gae(r, old_v, next_v, d, last, GAMMA, GAE_LAMBDA)
    target, metrics = advantage + old_v, {}
    for _ in range(UPDATE_EPOCHS):
        for at in minibatches(torch.randperm(len(o)), BATCH_SIZE):
            metrics |= value_update(agent.value, agent.value_optimizer, o[at], old_v[at], target[at])
            metrics |= policy_update(
                agent.policy, agent.policy_optimizer, o[at], a[at], old_log_prob[at], normalized(advantage[at])
            )
    return metrics


def play(
    env: ParallelEnv, act: Callable[[list[Tensor]], list[Tensor]], seed: int | None = None
) -> Iterator[list[tuple[Tensor, ...]]]:
    """An episode; yields each step as a list by agent of o, a, r, d, last, next o."""
    names, spaces = env.possible_agents, [env.action_space(k) for k in env.possible_agents]
    seen, _ = env.reset(seed=seed)
    while env.agents:
        o = [torch.from_numpy(seen[k]) for k in names]
        a = act(o)
        # Policies are at home in [-1, 1] and may leave it; the environment has bounds of its own.
        shares = [(a_i.clamp(-1, 1).numpy() + 1) / 2 for a_i in a]
        actions = {k: s.low + share * (s.high - s.low) for k, s, share in zip(names, spaces, shares)}
        seen, rewards, terminations, _, _ = env.step(actions)
        numbers = [torch.tensor([rewards[k], terminations[k], not env.agents], dtype=torch.float32) for k in names]
        yield [(o[i], a[i], *numbers[i], torch.from_numpy(seen[k])) for i, k in enumerate(names)]


def main(env_steps: int, seed: int) -> None:
    """Train for so many env steps, then evaluate."""
    torch.manual_seed(seed)
    env = simple_speaker_listener_v4.parallel_env(continuous_actions=True)
    env.reset(seed=seed)
    agents = []
    for k in env.possible_agents:
        inputs, outputs = env.observation_space(k).shape[0], env.action_space(k).shape[0]
        agents.append(Agent(Policy(mlp(inputs, outputs, gain=0.1), outputs), mlp(inputs, 1, gain=1.0)))

    @torch.no_grad()
    def act(o: list[Tensor], greedy: bool = False) -> list[Tensor]:
        pi = [agent.policy(o_i) for agent, o_i in zip(agents, o)]
        return [p.mean if greedy else p.sample() for p in pi]

    t, rollout, returns, start = 0, [], [], time.monotonic()
    while t < env_steps:
        steps = list(play(env, act))
        rollout += steps
        t += len(steps)
        returns.append(float(sum(r for step in steps for _, _, r, *_ in step)))
        if len(rollout) >= min(ROLLOUT_STEPS, env_steps):
            for i, agent in enumerate(agents):
                metrics = update(agent, [torch.stack(column) for column in zip(*(step[i] for step in rollout))])
            rollout, seconds = [], time.monotonic() - start
            told = f"return {np.mean(returns[-200:]):6.1f}  kl {metrics['approx_kl']:.3f}  {seconds:4.0f} s"
            print(f"{t:7,} env steps  {told}", flush=True)
    scores = []
    for episode in range(min(EVALUATION_EPISODES, len(returns))):
        steps = play(env, lambda o: act(o, greedy=True), seed=10**6 + episode)
        scores.append(float(sum(r for step in steps for _, _, r, *_ in step)))
    error = np.std(scores) / len(scores) ** 0.5
    print(f"evaluation without noise, {len(scores)} episodes: return {np.mean(scores):.1f} +- {error:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="IPPO on MPE's speaker and listener.")
    parser.add_argument("--env-steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
