"""MADDPG and MATD3 written a second time: one member, one agent after the other, plain autograd and torch.optim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from covey.config import Config
from covey.networks import NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import Box, EnvironmentSpaces
from covey_server import counter_rng
from covey_server.member import Member
from covey_server.replay import Replay
from covey_server.replay_layout import Batch


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


class Alone:
    """One member of MADDPG or MATD3, one agent after the other."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        self.made, self.spaces, self.hyper = made, spaces, m.hyperparameters
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
        key = f"actor/{self.player(agent)}"
        return forward(self.specs[key], nets[key], [self.own(observation, agent)])

    def judge(
        self, nets: dict[str, dict[str, Tensor]], role: str, agent: int, observation: Sequence[Tensor], action: Tensor
    ) -> Tensor:
        player = self.player(agent)
        agents = self.ids[player]
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

    def next_actions(self, batch: Batch) -> Tensor:
        size = batch.action.shape[1]
        settings = self.made.algorithm
        actions = []
        for agent, spec in enumerate(self.spaces.agents):
            out = self.act(self.targets, batch.next_observation, agent)
            if settings.name == "MATD3" and isinstance(spec.action, Box):
                noise = self.draws(counter_rng.normal, "target_noise", size)[:, self.columns(agent)]
                noise = (noise * settings.target_noise).clamp(-settings.target_noise_clip, settings.target_noise_clip)
                actions.append(((out / 2).tanh() + noise).clamp(-1, 1))
            elif isinstance(spec.action, Box):
                actions.append((out / 2).tanh())
            else:
                if settings.name == "MATD3":
                    out = out + self.draws(counter_rng.gumbel, "target_gumbel", size)[:, self.columns(agent)]
                actions.append(torch.eye(spec.action.n)[out.argmax(-1)])
        return torch.cat(actions, -1)

    def mean(self, per_agent: dict[int, Tensor], weight: Tensor, agents: Sequence[int]) -> Tensor:
        total = sum((per_agent[a] * weight[:, a]).sum() for a in agents)
        return torch.as_tensor(total) / max(1.0, sum(float(weight[:, a].sum()) for a in agents))

    def update(self, replay: Replay) -> None:
        size = int(self.hyper["batch_size"])
        batch = replay.sample(self.keys(), torch.tensor([size]), size)
        reward, terminated, weight = batch.reward[0], batch.terminated[0], batch.weight[0]
        agents = range(len(self.spaces.agents))
        with torch.no_grad():
            following = self.next_actions(batch)
            y = {}
            for a in agents:
                value = torch.stack(
                    [self.judge(self.targets, r, a, batch.next_observation, following) for r in self.roles]
                ).min(0)[0]
                y[a] = reward[:, a] + self.hyper["gamma"] * (1 - terminated[:, a]) * value
        losses = []
        for role in self.roles:
            for player, its in self.ids.items():
                errors = {
                    a: (self.judge(self.nets, role, a, batch.observation, batch.action[0]) - y[a]) ** 2 for a in its
                }
                losses.append(self.step(f"{role}/{player}", self.mean(errors, weight, its), "critic"))
        self.critic_losses.append(float(np.mean(losses)))
        self.updates += 1
        if self.made.algorithm.name == "MATD3" and self.updates % self.hyper["policy_freq"]:
            return
        self.updates -= 1  # the draws of this update
        self.learn_policies(batch, weight)
        self.updates += 1
        with torch.no_grad():
            for key, target in self.targets.items():
                for name, t in target.items():
                    t += self.hyper["tau"] * (self.nets[key][name] - t)

    def learn_policies(self, batch: Batch, weight: Tensor) -> None:
        size = batch.action.shape[1]
        actions, outputs = [], []
        for agent, spec in enumerate(self.spaces.agents):
            out = self.act(self.nets, batch.observation, agent)
            outputs.append(out)
            if isinstance(spec.action, Box):
                actions.append((out / 2).tanh())
            else:
                out = out + self.draws(counter_rng.gumbel, "policy_gumbel", size)[:, self.columns(agent)]
                soft = out.softmax(-1)
                actions.append(torch.eye(spec.action.n)[out.argmax(-1)] + soft - soft.detach())
        losses = {}
        for player, its in self.ids.items():
            values = {}
            for a in its:
                if self.made.algorithm.actor_loss == "joint":
                    joint = [x if i == a else x.detach() for i, x in enumerate(actions)]
                else:
                    joint = [x if i == a else batch.action[0][:, self.columns(i)] for i, x in enumerate(actions)]
                values[a] = -self.judge(self.nets, self.roles[0], a, batch.observation, torch.cat(joint, -1))
                values[a] = values[a] + self.made.algorithm.output_penalty * (outputs[a] ** 2).mean(-1)
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
        bound = getattr(self.made.algorithm, f"max_grad_norm_{kind}")
        if bound is not None:
            torch.nn.utils.clip_grad_norm_(self.nets[key].values(), bound)
        self.adam[key].step()
