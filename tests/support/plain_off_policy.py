"""MADDPG and MATD3 written a second time: one member, one agent after the other, plain autograd and torch.optim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from covey.config import Config, OffPolicyAlgorithm
from covey.networks import NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.member import Member
from covey_server.packing import counter_rng


def forward(spec: NetworkSpec, p: dict[str, Tensor], inputs: Sequence[Tensor], extra: Tensor | None = None) -> Tensor:
    """ReLU networks, written out: an encoder per group, applied to each of its agents; latents; head."""
    joint = []
    for i, x in zip(spec.inputs, inputs, strict=True):
        for agent in torch.split(x, i.width, -1):
            y = agent
            for layer in range(len(i.encoder.hidden_size)):
                y = (y @ p[f"encoder.{i.name}.{layer}.weight"] + p[f"encoder.{i.name}.{layer}.bias"]).relu()
            joint.append((y @ p[f"encoder.{i.name}.out.weight"] + p[f"encoder.{i.name}.out.bias"]).relu())
    y = torch.cat([*joint, extra] if extra is not None else joint, -1)
    for layer in range(len(spec.head.hidden_size)):
        y = (y @ p[f"head.{layer}.weight"] + p[f"head.{layer}.bias"]).relu()
    return y @ p["head.out.weight"] + p["head.out.bias"]


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
    """One member of MADDPG or MATD3, one agent after the other."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        assert isinstance(made.algorithm, OffPolicyAlgorithm)
        self.made, self.settings, self.spaces, self.hyper = made, made.algorithm, spaces, m.hyperparameters
        self.member_id, self.updates = m.member_id, m.updates
        self.ids = network_ids(spaces, made.algorithm.share_parameters)
        self.specs = {key: n.spec for key, n in m.networks.items()}
        self.nets = {
            key: {name: torch.from_numpy(p.copy()).requires_grad_() for name, p in n.params.items()}
            for key, n in m.networks.items()
        }
        self.targets = {key: {k: v.detach().clone() for k, v in n.items()} for key, n in self.nets.items()}
        self.adam = {
            key: torch.optim.Adam(
                n.values(), lr=m.hyperparameters["lr_actor" if key.startswith("actor") else "lr_critic"]
            )
            for key, n in self.nets.items()
        }
        self.roles = ["critic"] if made.algorithm.name == "MADDPG" else ["critic_1", "critic_2"]
        self.critic_losses: list[float] = []
        self.actor_losses: list[float] = []

    def keys(self) -> Tensor:
        return counter_rng.keys(self.made.training.seed, [self.member_id], [self.updates])

    def own(self, observation: Sequence[Tensor], agent: int) -> Tensor:
        for g, group in enumerate(self.spaces.groups):
            if agent in group.agents:
                width = group.observation.width
                k = group.agents.index(agent)
                return observation[g][0][:, k * width : (k + 1) * width]
        raise AssertionError

    def player(self, agent: int) -> str:
        return next(i for i, agents in self.ids.items() if agent in agents)

    def act(self, nets: dict[str, dict[str, Tensor]], observation: Sequence[Tensor], agent: int) -> Tensor:
        player = self.player(agent)
        seen = self.own(observation, agent)
        if self.settings.agent_indicator and len(self.ids[player]) > 1:
            index = torch.eye(len(self.ids[player]))[self.ids[player].index(agent)]
            seen = torch.cat([seen, index.expand(len(seen), -1)], -1)
        return forward(self.specs[f"actor/{player}"], nets[f"actor/{player}"], [seen])

    def judge(
        self,
        nets: dict[str, dict[str, Tensor]],
        role: str,
        agent: int,
        observation: Sequence[Tensor],
        action: Tensor,
        part: Tensor,
    ) -> Tensor:
        player = self.player(agent)
        agents = self.ids[player]
        if self.spaces.asynchronous:
            action = torch.cat([action, ((part == 1) | (part == 2)).float()], -1)
        if len(agents) > 1:
            index = torch.eye(len(agents))[agents.index(agent)].expand(len(action), -1)
            action = torch.cat([action, index], -1)
        key = f"{role}/{player}"
        return forward(self.specs[key], nets[key], [x[0] for x in observation], action)[:, 0]

    def columns(self, agent: int) -> slice:
        widths = [a.action.width for a in self.spaces.agents]
        return slice(sum(widths[:agent]), sum(widths[: agent + 1]))

    def draws(self, draw: Any, stream: str, batch: int) -> Tensor:
        width = sum(a.action.width for a in self.spaces.agents)
        drawn: Tensor = draw(self.keys(), stream, batch * width)
        return drawn.view(batch, width)

    def chosen(self, spec: AgentSpec, out: Tensor, legal: Tensor | None) -> Tensor:
        """One-hot of the best choice of those that are legal."""
        assert isinstance(spec.action, Discrete)
        best = out if legal is None else torch.where(legal > 0, out - out.min() + 1, 0)
        return torch.eye(spec.action.n)[best.argmax(-1)]

    def next_actions(self, look: Look) -> Tensor:
        size = len(look.part)
        settings = self.settings
        actions = []
        for agent, spec in enumerate(self.spaces.agents):
            columns = self.columns(agent)
            out = self.act(self.targets, look.observation, agent)
            if settings.name == "MATD3" and isinstance(spec.action, Box):
                noise = self.draws(counter_rng.normal, "target_noise", size)[:, columns]
                noise = (noise * settings.target_noise).clamp(-settings.target_noise_clip, settings.target_noise_clip)
                action = ((out / 2).tanh() + noise).clamp(-1, 1)
            elif isinstance(spec.action, Box):
                action = (out / 2).tanh()
            else:
                if settings.name == "MATD3":
                    out = out + self.draws(counter_rng.gumbel, "target_gumbel", size)[:, columns]
                action = self.chosen(spec, out, None if look.legal is None else look.legal[:, columns])
            actions.append(torch.where(look.part[:, agent, None] == 1, action, look.action[:, columns]))
        return torch.cat(actions, -1)

    def mean(self, per_agent: dict[int, Tensor], weight: Tensor, agents: Sequence[int]) -> Tensor:
        total = sum((per_agent[a] * weight[:, a]).sum() for a in agents)
        return torch.as_tensor(total) / max(1.0, sum(float(weight[:, a].sum()) for a in agents))

    def update(self, replay: Replay) -> None:
        size = int(self.hyper["batch_size"])
        batch = replay.sample(self.keys(), torch.tensor([size]), size)
        now, weight = now_of(batch), batch.weight[0]
        agents = range(len(self.spaces.agents))
        with torch.no_grad():
            y = {}
            for a in agents:
                look = next_of(batch, a)
                following = self.next_actions(look)
                value = torch.stack(
                    [self.judge(self.targets, r, a, look.observation, following, look.part) for r in self.roles]
                ).min(0)[0]
                k = torch.ones(size) if batch.steps is None else batch.steps[0, :, a]
                y[a] = batch.reward[0, :, a] + self.hyper["gamma"] ** k * (1 - batch.terminated[0, :, a]) * value
        losses = []
        for role in self.roles:
            for player, its in self.ids.items():
                errors = {
                    a: (self.judge(self.nets, role, a, now.observation, now.action, now.part) - y[a]) ** 2 for a in its
                }
                losses.append(self.step(f"{role}/{player}", self.mean(errors, weight, its), "critic"))
        self.critic_losses.append(float(np.mean(losses)))
        self.updates += 1
        if self.settings.name == "MATD3" and self.updates % self.hyper["policy_freq"]:
            return
        self.updates -= 1  # the draws of this update
        self.learn_policies(now, weight)
        self.updates += 1
        with torch.no_grad():
            for key, target in self.targets.items():
                for name, t in target.items():
                    t += self.hyper["tau"] * (self.nets[key][name] - t)

    def learn_policies(self, now: Look, weight: Tensor) -> None:
        actions, outputs = [], []
        weight = weight * (now.part == 1)
        for agent, spec in enumerate(self.spaces.agents):
            out = self.act(self.nets, now.observation, agent)
            outputs.append(out)
            if isinstance(spec.action, Box):
                actions.append((out / 2).tanh())
            else:
                columns = self.columns(agent)
                out = out + self.draws(counter_rng.gumbel, "policy_gumbel", len(weight))[:, columns]
                legal = torch.ones_like(out) if now.legal is None else now.legal[:, columns].float()
                powers = out.exp() * legal
                soft = powers / powers.sum(-1, keepdim=True)
                actions.append(self.chosen(spec, out, legal) + soft - soft.detach())
        losses = {}
        for player, its in self.ids.items():
            values = {}
            for a in its:
                joint = []
                for i, x in enumerate(actions):
                    done = now.action[:, self.columns(i)]
                    if self.settings.actor_loss == "joint":
                        done = torch.where(now.part[:, i, None] == 1, x.detach(), done)
                    joint.append(x if i == a else done)
                values[a] = -self.judge(self.nets, self.roles[0], a, now.observation, torch.cat(joint, -1), now.part)
                values[a] = values[a] + self.settings.output_penalty * (outputs[a] ** 2).mean(-1)
            losses[player] = self.mean(values, weight, its)
        # All gradients before the first step: the policies of a joint loss are those of the update's start.
        for player, loss in losses.items():
            actor = self.nets[f"actor/{player}"]
            for p, g in zip(
                actor.values(), torch.autograd.grad(loss, list(actor.values()), retain_graph=True), strict=True
            ):
                p.grad = g
        for player in self.ids:
            self.clip_and_step(f"actor/{player}", "actor")
        self.actor_losses.append(float(np.mean([float(x.detach()) for x in losses.values()])))

    def step(self, key: str, loss: Tensor, kind: str) -> float:
        for p, g in zip(self.nets[key].values(), torch.autograd.grad(loss, list(self.nets[key].values())), strict=True):
            p.grad = g
        self.clip_and_step(key, kind)
        return float(loss.detach())

    def clip_and_step(self, key: str, kind: str) -> None:
        bound = getattr(self.settings, f"max_grad_norm_{kind}")
        if bound is not None:
            torch.nn.utils.clip_grad_norm_(self.nets[key].values(), bound)
        self.adam[key].step()
