"""IPPO written a second time: one member, one network after the other, torch.distributions and torch.optim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.support.plain_off_policy import forward
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal

from covey.config import Config, OnPolicyAlgorithm
from covey.networks.resolve import network_ids
from covey.observations import ObservationEncoding
from covey.spaces import Box, Discrete, EnvironmentSpaces, MultiDiscrete, Space, action_bounds
from covey_server.algorithms.roles import indicator
from covey_server.experience.rollouts import AgentDecisions, Rollout
from covey_server.member import Member
from covey_server.packing import counter_rng


def both(of: Distribution, action: Tensor) -> tuple[Tensor, Tensor]:
    return of.log_prob(action), of.entropy()


def log_prob_and_entropy(
    space: Space, z: Tensor, log_std: Tensor | None, action: NDArray[Any], mask: NDArray[Any] | None
) -> tuple[Tensor, Tensor]:
    """Of stored actions (D, *shape), given outputs z (D, O)."""
    a = torch.from_numpy(action.reshape(len(action), -1).astype(np.float32))
    if isinstance(space, Box):
        assert log_std is not None
        low, high = (torch.from_numpy(b).float() for b in action_bounds(space))
        normal = Independent(Normal(z, log_std.exp().expand_as(z)), 1)
        return both(normal, (a - low) / (high - low) * 2 - 1)
    if isinstance(space, Discrete | MultiDiscrete):
        sizes = [space.n] if isinstance(space, Discrete) else list(space.nvec)
        start = space.start if isinstance(space, Discrete) else 0
        log_prob, entropy = torch.zeros(len(z)), torch.zeros(len(z))
        at = 0
        for i, n in enumerate(sizes):
            logits = z[:, at : at + n]
            if mask is not None:
                legal = torch.from_numpy(mask[:, at : at + n].astype(bool))
                legal = legal | ~legal.any(1, keepdim=True)
                logits = logits.masked_fill(~legal, -1e9)
            choice = Categorical(logits=logits)
            own = both(choice, a[:, i].long() - start)
            log_prob, entropy = log_prob + own[0], entropy + own[1]
            at += n
        return log_prob, entropy
    switches = Independent(Bernoulli(logits=z), 1)
    return both(switches, a)


def advantages_one_by_one(
    d: AgentDecisions, value: NDArray[Any], gamma: float, gae_lambda: float, mean: float = 0.0, std: float = 1.0
) -> NDArray[Any]:
    """GAE of one agent, backwards through its decisions; value (V,) is said of views, in units of mean and std."""
    said = value * std + mean
    result = np.zeros(len(d.here))
    following = 0.0
    for t in reversed(range(len(d.here))):
        discount = gamma ** int(d.steps[t])
        bootstrap = 0.0 if d.terminated[t] else said[d.after[t]]
        delta = d.reward[t] + discount * bootstrap - said[d.here[t]]
        following = delta + (discount * gae_lambda * following if d.continues[t] else 0.0)
        result[t] = following
    return result


class Alone:
    """One member of IPPO."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        assert isinstance(made.algorithm, OnPolicyAlgorithm)
        self.made, self.settings, self.spaces, self.hyper = made, made.algorithm, spaces, dict(m.hyperparameters)
        self.member_id, self.updates = m.member_id, m.updates
        self.ids = network_ids(spaces, made.algorithm.share_parameters)
        self.specs = {key: n.spec for key, n in m.networks.items()}
        self.nets = {
            key: {name: torch.from_numpy(p.copy()).requires_grad_() for name, p in n.params.items()}
            for key, n in m.networks.items()
        }
        self.adam = {key: torch.optim.Adam(n.values(), lr=self.hyper["lr"]) for key, n in self.nets.items()}
        self.scales = {key: (0.0, 1.0) for key in self.nets}
        self.rounds = 0
        self.metrics: dict[str, list[float]] = {}

    def out(self, key: str, x: Tensor) -> Tensor:
        return forward(self.specs[key], self.nets[key], [x])

    def tell(self, **numbers: Tensor) -> None:
        for name, x in numbers.items():
            self.metrics.setdefault(name, []).append(float(x.detach()))

    def update(self, rollout: Rollout) -> None:
        self.rounds += 1
        for network_id, agents in self.ids.items():
            self.learn(network_id, agents, [rollout.agents[a] for a in agents])
        self.updates += 1

    def learn(self, network_id: str, agents: Sequence[int], decisions: Sequence[AgentDecisions]) -> None:
        actor, critic = f"actor/{network_id}", f"critic/{network_id}"
        agent = self.spaces.agents[agents[0]]
        encoding = ObservationEncoding.of(agent.observation)
        h = self.hyper
        xs, old_values, advantages = [], [], []
        for j, d in enumerate(decisions):
            seen = torch.from_numpy(encoding.encode(d.view.reshape(len(d.view), -1)))
            if indicator(self.settings, tuple(agents)):
                seen = torch.cat([seen, torch.eye(len(agents))[j].expand(len(seen), -1)], 1)
            with torch.no_grad():
                said = self.out(critic, seen)[:, 0].numpy()
            xs.append(seen[d.here])
            old_values.append(said[d.here] * self.scales[critic][1] + self.scales[critic][0])
            advantages.append(advantages_one_by_one(d, said, h["gamma"], h["gae_lambda"], *self.scales[critic]))
        x = torch.cat(xs)
        old_value, advantage = np.concatenate(old_values), np.concatenate(advantages)
        returns = advantage + old_value
        if self.settings.normalize_values and len(x):
            self.rescale(critic, returns)
        mean, std = self.scales[critic]
        old = torch.from_numpy((old_value - mean) / std).float()
        target = torch.from_numpy((returns - mean) / std).float()
        gain = torch.from_numpy(advantage).float()
        action = np.concatenate([d.action for d in decisions])
        masks = [d.mask for d in decisions if d.mask is not None]
        mask = np.concatenate(masks) if masks else None
        chose = np.concatenate([~d.forced for d in decisions])
        if not len(x):
            return

        def judged(at: NDArray[Any]) -> tuple[Tensor, Tensor]:
            return log_prob_and_entropy(
                agent.action,
                self.out(actor, x[at]),
                self.nets[actor].get("log_std"),
                action[at],
                None if mask is None else mask[at],
            )

        with torch.no_grad():
            old_log_prob = judged(np.arange(len(x)))[0]
        count = len(x)
        minibatches = -(-count // int(h["batch_size"]))
        keys = counter_rng.keys(self.made.training.seed, [self.member_id], [self.updates])
        for epoch in range(int(h["update_epochs"])):
            order = counter_rng.bits(keys, f"shuffle/{epoch}/{network_id}", count)[0].argsort(stable=True).numpy()
            divergence = 0.0
            for j in range(minibatches):
                at = order[j * count // minibatches : (j + 1) * count // minibatches]
                value = self.out(critic, x[at])[:, 0]
                near = old[at] + (value - old[at]).clamp(-h["clip_coef"], h["clip_coef"])
                loss = 0.5 * torch.max((value - target[at]) ** 2, (near - target[at]) ** 2).mean()
                self.step(critic, h["vf_coef"] * loss)
                self.tell(value_loss=loss)
                at = at[chose[at]]
                if not len(at):
                    continue
                log_prob, entropy = judged(at)
                ratio = (log_prob - old_log_prob[at]).exp()
                a = gain[at] - gain[at].mean()
                a = a / (a.std() + 1e-8) if len(a) > 1 else a
                clipped = ratio.clamp(1 - h["clip_coef"], 1 + h["clip_coef"])
                surrogate = -torch.min(ratio * a, clipped * a).mean()
                self.step(actor, surrogate - h["ent_coef"] * entropy.mean())
                kl = (ratio - 1 - ratio.log()).mean()
                divergence = float(kl.detach())
                self.tell(
                    policy_loss=surrogate,
                    entropy=entropy.mean(),
                    approx_kl=kl,
                    clip_fraction=((ratio - 1).abs() > h["clip_coef"]).float().mean(),
                )
            if self.settings.target_kl is not None and divergence > self.settings.target_kl:
                break

    def rescale(self, critic: str, returns: NDArray[Any]) -> None:
        """The last layer moves against the units; those are the mixture of ten rounds at most."""
        mean, std = self.scales[critic]
        share = 1 / min(self.rounds, 10)
        change = returns.mean() - mean
        variance = (1 - share) * std**2 + share * returns.var() + share * (1 - share) * change**2
        new_mean, new_std = mean + share * change, max(variance**0.5, 1e-2)
        with torch.no_grad():
            self.nets[critic]["head.out.weight"] *= std / new_std
            self.nets[critic]["head.out.bias"] *= std / new_std
            self.nets[critic]["head.out.bias"] += (mean - new_mean) / new_std
        self.scales[critic] = (float(new_mean), float(new_std))

    def step(self, key: str, loss: Tensor) -> None:
        net = self.nets[key]
        for p, g in zip(net.values(), torch.autograd.grad(loss, list(net.values())), strict=True):
            p.grad = g
        if "max_grad_norm" in self.hyper:
            torch.nn.utils.clip_grad_norm_(net.values(), self.hyper["max_grad_norm"])
        self.adam[key].step()
