"""MASAC, one member and one network after the other: torch.distributions, autograd and torch.optim.Adam."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from tests.support.plain_examples import matd3
from tests.support.plain_off_policy import Alone, Look, next_of
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from covey.config import Config, MASACSettings
from covey.spaces import EnvironmentSpaces
from covey_server.experience.batch import Batch
from covey_server.member import Member
from covey_server.packing import counter_rng


def squashed(outputs: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """The sample tanh(mean + sigma e) of a policy with these outputs (B, 2 w), and its log-density."""
    mean, log_std = outputs.chunk(2, -1)
    sigma = log_std.clamp(-20, 2).exp()
    base = Independent(Normal(mean, sigma, validate_args=False), 1, validate_args=False)
    squash = TanhTransform(cache_size=1)
    policy = TransformedDistribution(base, [squash], validate_args=False)
    action = squash(mean + sigma * e)
    assert action is not None
    return action, policy.log_prob(action)


class PlainMASAC(Alone):
    """One member that learns by MASAC alone, network by network in plain PyTorch, to compare packed learning with."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        super().__init__(made, spaces, m)
        assert isinstance(made.algorithm, MASACSettings)
        self.soft = made.algorithm
        fixed = self.soft.ent_coef
        start = {i: 0.0 if fixed == "auto" else math.log(fixed) for i in self.ids}
        self.log_alpha = {i: torch.tensor(x, dtype=torch.float64, requires_grad=True) for i, x in start.items()}
        self.alpha_adam = {i: torch.optim.Adam([x], self.hyper["lr_actor"]) for i, x in self.log_alpha.items()}

    def alpha(self, agent: int) -> Tensor:
        return self.log_alpha[self.player(agent)].detach().exp()

    def sampled(self, agent: int, observation: Sequence[Tensor], stream: str) -> tuple[Tensor, Tensor]:
        """What the agent's policy would do in all rows, and the log-density of it."""
        o = self.own(observation, agent)
        e = self.draws(counter_rng.normal, stream, len(o))[:, self.columns(agent)]
        return squashed(self.nets[f"actor/{self.player(agent)}"](o), e)

    def together(self, look: Look, samples: Sequence[Tensor]) -> Tensor:
        """The joint action: samples of those who choose, what the row has of the others."""
        columns = [self.columns(agent) for agent in range(len(samples))]
        own = zip(samples, columns, range(len(samples)), strict=True)
        return torch.cat([torch.where(look.part[:, i, None] == 1, x, look.action[:, at]) for x, at, i in own], -1)

    def follow(self, now: Look, weight: Tensor) -> None:
        self.learn_soft_policies(now, weight)
        for key, target in self.targets.items():
            if key.startswith("critic"):
                matd3.polyak(target, self.nets[key], self.hyper["tau"])

    @torch.no_grad()
    def target(self, batch: Batch, agent: int) -> Tensor:
        look = next_of(batch, agent)
        seen = [x[0] for x in look.observation]
        each = [self.sampled(other, look.observation, "next_action") for other in range(len(self.spaces.agents))]
        a = self.context(agent, self.together(look, [action for action, _ in each]), look.part)
        values = [self.targets[f"{role}/{self.player(agent)}"](seen, a) for role in self.roles]
        chooses = look.part[:, agent] == 1
        entropy = torch.where(chooses, -each[agent][1], 0.0)
        k = torch.ones(len(a)) if batch.steps is None else batch.steps[0, :, agent]
        soft = torch.minimum(values[0], values[1]) + self.alpha(agent) * entropy
        return batch.reward[0, :, agent] + self.hyper["gamma"] ** k * (1 - batch.terminated[0, :, agent]) * soft

    def learn_soft_policies(self, now: Look, weight: Tensor) -> None:
        agents = range(len(self.spaces.agents))
        with torch.no_grad():
            current = [self.sampled(agent, now.observation, "action")[0] for agent in agents]
        others = self.together(now, current) if self.soft.actor_loss == "joint" else now.action
        losses, moves = [], []
        for player, own in self.ids.items():
            key, rows = f"actor/{player}", [weight[:, a] > 0 for a in own]
            if not any(r.any() for r in rows):
                losses.append(self.learn_nothing(key))
                moves.append((player, 0 * self.log_alpha[player]))
                continue
            terms, log_probs = [], []
            for a, r in zip(own, rows, strict=True):
                action, log_prob = self.sampled(a, now.observation, "action")
                at = self.columns(a)
                joint = torch.cat([others[:, : at.start], action, others[:, at.stop :]], -1)
                seen = [x[0] for x in now.observation]
                values = [self.nets[f"{role}/{player}"](seen, self.context(a, joint, now.part)) for role in self.roles]
                terms.append((self.alpha(a) * log_prob - torch.minimum(values[0], values[1]))[r])
                log_probs.append(log_prob.detach()[r])
            losses.append(matd3.descend(torch.cat(terms).mean(), self.adam[key], self.bound("actor")))
            told = self.soft.target_entropy
            entropy = -self.spaces.agents[own[0]].action.width if told == "auto" else told
            moves.append((player, -(self.log_alpha[player] * (torch.cat(log_probs) + entropy)).mean()))
        self.actor_losses.append(float(np.mean(losses)))
        if self.soft.ent_coef == "auto":
            for player, loss in moves:
                self.alpha_adam[player].zero_grad()
                loss.backward()
                self.alpha_adam[player].step()
