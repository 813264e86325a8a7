"""MATD3 on one screen: one environment, one network after the other, plain PyTorch.

    .venv/bin/python examples/plain_matd3.py --env-steps 150000 --seed 0

MADDPG (Lowe et al., 2017) gives every agent i a policy mu_i(o_i), and a critic Q_i(x, a) that sees the observations
x = (o_1, ..., o_N) and actions a = (a_1, ..., a_N) of all agents. MATD3 (Ackermann et al., 2019) adds what TD3
(Fujimoto et al., 2018) adds to DDPG: twin critics, smoothed target policies, delayed policies.

The environment is MPE's speaker and listener: the speaker sees which landmark is the goal, the listener sees the
landmarks and must go to the right one. Returns are those of an episode of 25 steps, summed over both agents: -73 for
random actions, -30 for a listener that takes no notice of the speaker, -12 for the best that is known. The defaults
come to about -16, in three minutes on one core.

covey does the same for a whole population in batched operations, and its tests hold those to the functions here.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mpe2 import simple_speaker_listener_v4
from pettingzoo import ParallelEnv
from torch import Tensor, nn, optim

GAMMA = 0.95  # discount
TAU = 0.01  # how far targets follow their networks
LEARNING_RATE = 0.003
BATCH_SIZE, BUFFER_SIZE = 256, 500_000
RANDOM_SHARE = 0.05  # of the env steps, at the start, with random actions and without learning
TRAIN_FREQ = 25  # env steps per update
POLICY_FREQ = 2  # updates of critics per update of policies and targets: TD3's d
EXPLORATION_NOISE = 0.5, 0.2  # standard deviation, of actions in [-1, 1], at the start and at the end
POLICY_NOISE, NOISE_CLIP = 0.2, 0.5  # of target policies: TD3's sigma and c
OUTPUT_PENALTY = 0.001  # a speaker whose outputs saturate may say the same word for two landmarks for ever
MAX_GRAD_NORM_POLICY, MAX_GRAD_NORM_CRITIC = 0.5, 10.0
EVALUATION_EPISODES = 400  # fewer where training had fewer


def squash(z: Tensor) -> Tensor:
    """A policy's outputs z to actions in [-1, 1]; half as steep as tanh(z), so that it saturates later."""
    return torch.tanh(z / 2)


def smoothed(action: Tensor, noise: Tensor, sigma: float = POLICY_NOISE, c: float = NOISE_CLIP) -> Tensor:
    """Target policy smoothing: a' = clip(mu'(o') + clip(sigma e, -c, c), -1, 1), e ~ N(0, 1) (TD3, section 5.3)."""
    return (action + (sigma * noise).clamp(-c, c)).clamp(-1, 1)


def td3_target(reward: Tensor, terminated: Tensor, gamma: float | Tensor, next_values: Sequence[Tensor]) -> Tensor:
    """Clipped double Q-learning: y = r + gamma (1 - d) min_k Q'_k(x', a') (TD3, section 4.2).

    d is 1 where the environment's rules ended the episode; where a time limit did, there would have been a future.
    """
    return reward + gamma * (1 - terminated) * torch.stack(list(next_values)).amin(0)


def descend(loss: Tensor, optimizer: optim.Optimizer, max_grad_norm: float) -> float:
    """A step down the gradient, its norm bounded; returns the loss before it."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], max_grad_norm)
    optimizer.step()
    return loss.item()


def critic_update(
    critic: nn.Module, optimizer: optim.Optimizer, x: Tensor, a: Tensor, y: Tensor, max_grad_norm: float
) -> float:
    """Descend L = mean (Q_i(x, a) - y)^2 (MADDPG, equation 6), with observations x and actions a of all agents."""
    return descend(F.mse_loss(critic(x, a), y), optimizer, max_grad_norm)


def policy_update(
    policy: nn.Module,
    critic: nn.Module,
    optimizer: optim.Optimizer,
    o: Tensor,
    x: Tensor,
    joint: Callable[[Tensor], Tensor],
    output_penalty: float,
    max_grad_norm: float,
) -> float:
    """Ascend mean Q_i(x, a_1, ..., mu_i(o_i), ..., a_N) (MADDPG, equation 5), by the agent's first critic.

    `joint` makes all agents' actions of the policy's outputs; those of the other agents are constants in it.
    """
    z = policy(o)
    loss = -critic(x, joint(z)).mean() + output_penalty * z.square().mean()
    return descend(loss, optimizer, max_grad_norm)


@torch.no_grad()
def polyak(target: nn.Module, network: nn.Module, tau: float) -> None:
    """Targets follow: theta' <- tau theta + (1 - tau) theta'."""
    for t, p in zip(target.parameters(), network.parameters(), strict=True):
        t.copy_(tau * p + (1 - tau) * t)


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


class Critic(nn.Module):
    """Q_i(x, a), (B,)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.network = mlp(inputs, 1)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """Of the observations and the actions of all agents, side by side."""
        return self.network(torch.cat([x, a], -1))[..., 0]


class Agent:
    """A policy and twin critics, a target and an optimizer for each."""

    def __init__(self, policy: nn.Module, critics: Sequence[nn.Module]) -> None:
        self.policy, self.critics = policy, critics
        self.target_policy, self.target_critics = copy.deepcopy((policy, critics))
        self.policy_optimizer = optim.Adam(policy.parameters(), LEARNING_RATE)
        self.critic_optimizers = [optim.Adam(q.parameters(), LEARNING_RATE) for q in critics]


def update(agents: Sequence[Agent], batch: Sequence[Sequence[Tensor]], noise: Tensor, policies_too: bool) -> None:
    """Learn from a batch: observations, actions, rewards, terminations and next observations, each by agent (B, width).

    `noise` is what target policies draw, (B, width of all actions).
    """
    o, a, r, d, next_o = batch
    x, next_x = torch.cat(list(o), -1), torch.cat(list(next_o), -1)
    with torch.no_grad():
        next_a = torch.cat([squash(agent.target_policy(o_i)) for agent, o_i in zip(agents, next_o)], -1)
        next_a = smoothed(next_a, noise)
    for agent, r_i, d_i in zip(agents, r, d):
        with torch.no_grad():
            y = td3_target(r_i[:, 0], d_i[:, 0], GAMMA, [q(next_x, next_a) for q in agent.target_critics])
        for critic, optimizer in zip(agent.critics, agent.critic_optimizers):
            critic_update(critic, optimizer, x, torch.cat(list(a), -1), y, MAX_GRAD_NORM_CRITIC)
    if not policies_too:
        return
    # The others do what they would do now. (In MADDPG they do what they did.)
    now = [squash(agent.policy(o_i)).detach() for agent, o_i in zip(agents, o)]
    for i, agent in enumerate(agents):
        policy_update(
            agent.policy,
            agent.critics[0],
            agent.policy_optimizer,
            o[i],
            x,
            lambda z, i=i: torch.cat([*now[:i], squash(z), *now[i + 1 :]], -1),
            OUTPUT_PENALTY,
            MAX_GRAD_NORM_POLICY,
        )
        polyak(agent.target_policy, agent.policy, TAU)
        for target, critic in zip(agent.target_critics, agent.critics):
            polyak(target, critic, TAU)


def play(
    env: ParallelEnv, act: Callable[[list[Tensor]], list[Tensor]], seed: int | None = None
) -> Iterator[tuple[list[Tensor], ...]]:
    """An episode; yields o, a, r, d and next o of each step, each of them a list by agent."""
    names, spaces = env.possible_agents, [env.action_space(k) for k in env.possible_agents]
    seen, _ = env.reset(seed=seed)
    while env.agents:
        o = [torch.from_numpy(seen[k]) for k in names]
        a = act(o)
        # From [-1, 1] to the environment's own bounds.
        actions = {k: s.low + (x.numpy() + 1) / 2 * (s.high - s.low) for k, s, x in zip(names, spaces, a)}
        seen, rewards, terminations, _, _ = env.step(actions)
        r, d = ([torch.tensor([float(by[k])]) for k in names] for by in (rewards, terminations))
        yield o, a, r, d, [torch.from_numpy(seen[k]) for k in names]


def main(env_steps: int, seed: int) -> None:
    """Train for so many env steps, then evaluate."""
    torch.manual_seed(seed)
    env = simple_speaker_listener_v4.parallel_env(continuous_actions=True)
    env.reset(seed=seed)
    o_widths = [env.observation_space(k).shape[0] for k in env.possible_agents]
    a_widths = [env.action_space(k).shape[0] for k in env.possible_agents]
    inputs, n = sum(o_widths) + sum(a_widths), len(o_widths)
    agents = [Agent(mlp(o, a), [Critic(inputs), Critic(inputs)]) for o, a in zip(o_widths, a_widths)]
    widths = [*o_widths, *a_widths, *[1] * n, *[1] * n, *o_widths]
    buffer = torch.zeros(min(BUFFER_SIZE, env_steps), sum(widths))  # a ring of steps
    t, updates, returns, start = 0, 0, [], time.monotonic()

    @torch.no_grad()
    def greedy(o: list[Tensor]) -> list[Tensor]:
        return [squash(agent.policy(o_i)) for agent, o_i in zip(agents, o)]

    def explore(o: list[Tensor]) -> list[Tensor]:
        if t < RANDOM_SHARE * env_steps:
            return [2 * torch.rand(width) - 1 for width in a_widths]
        first, last = EXPLORATION_NOISE
        sigma = first + (last - first) * t / env_steps
        return [(x + sigma * torch.randn_like(x)).clamp(-1, 1) for x in greedy(o)]

    while t < env_steps:
        returns.append(0.0)
        for step in play(env, explore):
            buffer[t % len(buffer)] = torch.cat([x for by_agent in step for x in by_agent])
            returns[-1] += float(sum(step[2]))
            t += 1
            if t % TRAIN_FREQ == 0 and t > RANDOM_SHARE * env_steps:
                updates += 1
                rows = buffer[torch.randint(min(t, len(buffer)), (BATCH_SIZE,))].split(widths, -1)
                batch = [rows[k * n : (k + 1) * n] for k in range(5)]
                update(agents, batch, torch.randn(BATCH_SIZE, sum(a_widths)), updates % POLICY_FREQ == 0)
        if len(returns) % 200 == 0 or t >= env_steps:
            told = f"return {np.mean(returns[-200:]):6.1f}  {time.monotonic() - start:4.0f} s"
            print(f"{t:7,} env steps  {updates:5,} updates  {told}", flush=True)
    episodes = min(EVALUATION_EPISODES, len(returns))
    scores = [float(sum(sum(step[2]) for step in play(env, greedy, 10**6 + e))) for e in range(episodes)]
    error = np.std(scores) / len(scores) ** 0.5
    print(f"evaluation without noise, {len(scores)} episodes: return {np.mean(scores):.1f} +- {error:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="MATD3 on MPE's speaker and listener.")
    parser.add_argument("--env-steps", type=int, default=150_000)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
