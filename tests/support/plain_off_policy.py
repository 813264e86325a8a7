"""MADDPG and MATD3, one member and one network after the other, by the functions of examples/plain_matd3.py.

The example has two agents with Box actions that act in every step. Added here is what else there is: rows in which an
agent takes no part (they are left out), agents that share networks (the rows of one follow those of the other), agents
that act at different times, Discrete actions, masks.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tests.support.plain_examples import matd3
from torch import Tensor, nn

from covey.config import Config, JointCriticAlgorithm, MATD3Settings, OffPolicyAlgorithm
from covey.networks import NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import AgentSpec, Box, EnvironmentSpaces, MultiBinary, choices
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.member import Member, Network
from covey_server.packing import counter_rng


def forward(spec: NetworkSpec, p: dict[str, Tensor], inputs: Sequence[Tensor], extra: Tensor | None = None) -> Tensor:
    """ReLU networks, written out: an encoder per group, applied to each of its agents; latents; head."""

    def hidden(x: Tensor, layer: str) -> Tensor:
        y = x @ p[f"{layer}.weight"] + p[f"{layer}.bias"]
        if f"{layer}.norm.scale" in p:
            y = nn.functional.layer_norm(y, y.shape[-1:], p[f"{layer}.norm.scale"], p[f"{layer}.norm.bias"])
        return y.relu()

    joint = []
    for i, x in zip(spec.inputs, inputs, strict=True):
        for agent in torch.split(x, i.width, -1):
            y = agent
            for layer in range(i.encoder.layers):
                y = hidden(y, f"encoder.{i.name}.{layer}")
            joint.append((y @ p[f"encoder.{i.name}.out.weight"] + p[f"encoder.{i.name}.out.bias"]).relu())
    y = torch.cat([*joint, extra] if extra is not None else joint, -1)
    for layer in range(len(spec.head.hidden_size)):
        y = hidden(y, f"head.{layer}")
    return y @ p["head.out.weight"] + p["head.out.bias"]


class Plain(nn.Module):
    """A member's network as a module: of an agent's observations (B, width), its outputs (B, outputs)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.spec = network.spec
        self.names = list(network.params)
        for name, p in network.params.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(torch.from_numpy(p.copy())))

    def __getitem__(self, name: str) -> Tensor:
        return dict(zip(self.names, self.parameters(), strict=True))[name]

    def outputs(self, inputs: Sequence[Tensor], extra: Tensor | None = None) -> Tensor:
        return forward(self.spec, dict(zip(self.names, self.parameters(), strict=True)), inputs, extra)

    def forward(self, o: Tensor) -> Tensor:
        return self.outputs([o])


class PlainCritic(Plain):
    """A critic of observations by group, (B, agents of the group * width), and a joint action: values (B,)."""

    def forward(self, x: Sequence[Tensor], a: Tensor) -> Tensor:  # type: ignore[override]
        return self.outputs(x, a)[:, 0]


@dataclass
class Look:
    """What is known of rows: observations per group (1, B, ...), joint (B, ...) action, masks and parts."""

    observation: list[Tensor]
    action: Tensor
    legal: Tensor | None
    part: Tensor


def now_of(batch: Batch) -> Look:
    part = torch.ones_like(batch.weight[0]) if batch.part is None else batch.part[0]
    return Look(list(batch.observation), batch.action[0], None if batch.legal is None else batch.legal[0], part)


def next_of(batch: Batch, agent: int) -> Look:
    """The rows at which the agent's decisions close."""
    if batch.next_part is None or batch.next_action is None:
        legal = None if batch.next_legal is None else batch.next_legal[0]
        nothing = torch.zeros_like(batch.action[0])
        return Look(list(batch.next_observation), nothing, legal, torch.ones_like(batch.weight[0]))
    return Look(
        [x[agent] for x in batch.next_observation],
        batch.next_action[agent, 0],
        None if batch.next_legal is None else batch.next_legal[agent, 0],
        batch.next_part[agent, 0],
    )


class Alone:
    """One member of MADDPG or MATD3 (of MASAC see `plain_masac`), one network after the other."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        assert isinstance(made.algorithm, JointCriticAlgorithm)
        self.made, self.settings, self.spaces, self.hyper = made, made.algorithm, spaces, m.hyperparameters.numbers()
        self.member_id, self.updates = m.member_id, m.updates
        self.ids = network_ids(spaces, made.algorithm.share_parameters)
        self.nets = {k: (Plain if k.startswith("actor") else PlainCritic)(n) for k, n in m.networks.items()}
        self.targets = {key: copy.deepcopy(n).requires_grad_(False) for key, n in self.nets.items()}
        self.adam = {
            key: torch.optim.Adam(n.parameters(), self.hyper[f"lr_{'actor' if type(n) is Plain else 'critic'}"])
            for key, n in self.nets.items()
        }
        self.roles = ["critic"] if made.algorithm.name == "MADDPG" else ["critic_1", "critic_2"]
        self.critic_losses: list[float] = []
        self.actor_losses: list[float] = []

    def keys(self) -> Tensor:
        return counter_rng.keys(self.made.training.seed, [self.member_id], [self.updates])

    def bound(self, kind: str) -> float:
        norm = getattr(self.settings, f"max_grad_norm_{kind}")
        return math.inf if norm is None else float(norm)

    def player(self, agent: int) -> str:
        return next(i for i, agents in self.ids.items() if agent in agents)

    def own(self, observation: Sequence[Tensor], agent: int) -> Tensor:
        """What the agent's policy sees, (B, ...)."""
        g, group = next((g, group) for g, group in enumerate(self.spaces.groups) if agent in group.agents)
        width, k = group.observation.width, group.agents.index(agent)
        seen = observation[g][0][:, k * width : (k + 1) * width]
        agents = self.ids[self.player(agent)]
        if self.settings.agent_indicator and len(agents) > 1:
            index = torch.eye(len(agents))[agents.index(agent)]
            seen = torch.cat([seen, index.expand(len(seen), -1)], -1)
        return seen

    def context(self, agent: int, action: Tensor, part: Tensor) -> Tensor:
        """What the agent's critic sees beside observations: the joint action, who acts, which agent is asked about."""
        agents = self.ids[self.player(agent)]
        if self.spaces.asynchronous:
            action = torch.cat([action, ((part == 1) | (part == 2)).float()], -1)
        if len(agents) > 1:
            index = torch.eye(len(agents))[agents.index(agent)].expand(len(action), -1)
            action = torch.cat([action, index], -1)
        return action

    def columns(self, agent: int) -> slice:
        widths = [a.action.width for a in self.spaces.agents]
        return slice(sum(widths[:agent]), sum(widths[: agent + 1]))

    def draws(self, draw: Any, stream: str, batch: int) -> Tensor:
        width = sum(a.action.width for a in self.spaces.agents)
        drawn: Tensor = draw(self.keys(), stream, batch * width)
        return drawn.view(batch, width)

    def noise(self, stream: str, agent: int, batch: int, rows: Tensor | slice = slice(None)) -> Tensor:
        """What is added to an agent's logits: Gumbel noise to those of choices, logistic noise to those of switches."""
        space = self.spaces.agents[agent].action
        law = "logistic" if isinstance(space, MultiBinary) else "gumbel"
        return self.draws(getattr(counter_rng, law), f"{stream}_{law}", batch)[rows][:, self.columns(agent)]

    def chosen(self, spec: AgentSpec, out: Tensor, legal: Tensor | None) -> Tensor:
        """One-hot vectors of the best values that are legal, choice by choice; switches are on or off."""
        if isinstance(spec.action, MultiBinary):
            return torch.where(out > 0, 1.0, 0.0)
        best = out if legal is None else out.masked_fill(legal == 0, -torch.inf)
        values = choices(spec.action)
        return torch.cat([torch.eye(x.shape[-1])[x.argmax(-1)] for x in best.split(values, -1)], -1)

    def next_actions(self, look: Look) -> Tensor:
        """What target policies do where they choose; others are bound to what they did."""
        size = len(look.part)
        settings = self.settings
        actions = []
        for agent, spec in enumerate(self.spaces.agents):
            columns = self.columns(agent)
            out = self.targets[f"actor/{self.player(agent)}"](self.own(look.observation, agent))
            if isinstance(spec.action, Box):
                action = matd3.squash(out)
                if isinstance(settings, MATD3Settings):
                    noise = self.draws(counter_rng.normal, "target_noise", size)[:, columns]
                    action = matd3.smoothed(action, noise, settings.target_noise, settings.target_noise_clip)
            else:
                if settings.name == "MATD3":
                    out = out + self.noise("target", agent, size)
                action = self.chosen(spec, out, None if look.legal is None else look.legal[:, columns])
            actions.append(torch.where(look.part[:, agent, None] == 1, action, look.action[:, columns]))
        return torch.cat(actions, -1)

    def update(self, replay: Replay) -> None:
        size = int(self.hyper["batch_size"])
        batch = replay.sample(self.keys(), torch.tensor([size]), size)
        now, weight = now_of(batch), batch.weight[0]
        y = [self.target(batch, agent) for agent in range(len(self.spaces.agents))]
        losses = []
        for role in self.roles:
            for player, agents in self.ids.items():
                rows = [weight[:, a] > 0 for a in agents]
                losses.append(self.learn_critic(f"{role}/{player}", agents, rows, now, y))
        self.critic_losses.append(float(np.mean(losses)))
        self.follow(now, weight * (now.part == 1))
        self.updates += 1

    def follow(self, now: Look, weight: Tensor) -> None:
        """Let policies and targets learn what the critics have learned, where it is their turn."""
        if self.settings.name == "MADDPG" or (self.updates + 1) % self.hyper["policy_freq"] == 0:
            self.learn_policies(now, weight)
            for key, target in self.targets.items():
                matd3.polyak(target, self.nets[key], self.hyper["tau"])

    @torch.no_grad()
    def target(self, batch: Batch, agent: int) -> Tensor:
        """The agent's y, (B,); a decision of k steps is discounted by gamma^k."""
        look = next_of(batch, agent)
        a = self.context(agent, self.next_actions(look), look.part)
        critics = [self.targets[f"{role}/{self.player(agent)}"] for role in self.roles]
        k = torch.ones(len(a)) if batch.steps is None else batch.steps[0, :, agent]
        values = [critic([x[0] for x in look.observation], a) for critic in critics]
        y: Tensor = matd3.td3_target(
            batch.reward[0, :, agent], batch.terminated[0, :, agent], self.hyper["gamma"] ** k, values
        )
        return y

    def learn_critic(
        self, key: str, agents: Sequence[int], rows: Sequence[Tensor], now: Look, y: Sequence[Tensor]
    ) -> float:
        if not any(r.any() for r in rows):
            return self.learn_nothing(key)
        x = [torch.cat([group[0][r] for r in rows]) for group in now.observation]
        a = torch.cat([self.context(a, now.action[r], now.part[r]) for a, r in zip(agents, rows, strict=True)])
        target = torch.cat([y[a][r] for a, r in zip(agents, rows, strict=True)])
        loss: float = matd3.critic_update(self.nets[key], self.adam[key], x, a, target, self.bound("critic"))
        return loss

    def learn_policies(self, now: Look, weight: Tensor) -> None:
        assert isinstance(self.settings, OffPolicyAlgorithm)
        others = now.action
        if self.settings.actor_loss == "joint":
            with torch.no_grad():
                everywhere = torch.ones(len(weight), dtype=torch.bool)
                current = [self.current(agent, now, everywhere) for agent in range(weight.shape[1])]
            acts = [now.part[:, i, None].expand_as(x) == 1 for i, x in enumerate(current)]
            others = torch.where(torch.cat(acts, -1), torch.cat(current, -1), others)
        losses = []
        for player, agents in self.ids.items():
            key, rows = f"actor/{player}", [weight[:, a] > 0 for a in agents]
            if not any(r.any() for r in rows):
                losses.append(self.learn_nothing(key))
                continue
            loss = matd3.policy_update(
                self.nets[key],
                self.nets[f"{self.roles[0]}/{player}"],
                self.adam[key],
                torch.cat([self.own(now.observation, a)[r] for a, r in zip(agents, rows, strict=True)]),
                [torch.cat([group[0][r] for r in rows]) for group in now.observation],
                functools.partial(self.joint, agents, rows, now, others),
                self.settings.output_penalty,
                self.bound("actor"),
            )
            losses.append(loss)
        self.actor_losses.append(float(np.mean(losses)))

    def joint(self, agents: Sequence[int], rows: Sequence[Tensor], now: Look, others: Tensor, z: Tensor) -> Tensor:
        """The joint actions with those of z, rows of one agent after those of the other, in the agents' places."""
        parts = []
        for agent, r, out in zip(agents, rows, torch.split(z, [int(r.sum()) for r in rows]), strict=True):
            at, own = self.columns(agent), self.differentiable(agent, out, now, r)
            action = torch.cat([others[r][:, : at.start], own, others[r][:, at.stop :]], -1)
            parts.append(self.context(agent, action, now.part[r]))
        return torch.cat(parts)

    def current(self, agent: int, now: Look, rows: Tensor) -> Tensor:
        out = self.nets[f"actor/{self.player(agent)}"](self.own(now.observation, agent)[rows])
        return self.differentiable(agent, out, now, rows)

    def differentiable(self, agent: int, out: Tensor, now: Look, rows: Tensor) -> Tensor:
        """An agent's actions in these rows: squashed, or samples whose gradient is that of what is legal's softmax."""
        spec, columns = self.spaces.agents[agent], self.columns(agent)
        if isinstance(spec.action, Box):
            action: Tensor = matd3.squash(out)
            return action
        out = out + self.noise("policy", agent, len(rows), rows)
        if isinstance(spec.action, MultiBinary):
            on = out.exp() / (1 + out.exp())
            return self.chosen(spec, out, None) + on - on.detach()
        legal = torch.ones_like(out) if now.legal is None else now.legal[rows][:, columns].float()
        powers = (out.exp() * legal).split(choices(spec.action), -1)
        soft = torch.cat([p / p.sum(-1, keepdim=True) for p in powers], -1)
        return self.chosen(spec, out, legal) + soft - soft.detach()

    def learn_nothing(self, key: str) -> float:
        """Of a batch in which no agent of the network takes part: the loss is 0, and Adam goes on by its moments."""
        nothing = torch.stack([(0 * p).sum() for p in self.nets[key].parameters()]).sum()
        loss: float = matd3.descend(nothing, self.adam[key], math.inf)
        return loss
