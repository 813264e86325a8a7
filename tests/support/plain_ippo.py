"""IPPO and MAPPO, one member and one network after the other, by the functions of examples/plain_ippo.py.

The example has agents with Box actions that act in every step. Added here is what else there is: agents that share
networks, decisions of several steps, forced ones, other kinds of actions and masks, values in units of the returns, an
early stop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.support.plain_examples import ippo
from tests.support.plain_off_policy import Plain
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent

from covey.config import Config, MAPPOSettings, OnPolicyAlgorithm
from covey.networks.resolve import network_ids
from covey.observations import ObservationEncoding
from covey.spaces import Box, Discrete, EnvironmentSpaces, MultiDiscrete, Space, action_bounds
from covey_server.algorithms.mappo import turns
from covey_server.algorithms.roles import indicator
from covey_server.experience.rollouts import AgentDecisions, Rollout
from covey_server.member import Member, Network
from covey_server.packing import counter_rng


def choices(space: Discrete | MultiDiscrete) -> list[int]:
    """Numbers of values of each choice."""
    return [space.n] if isinstance(space, Discrete) else list(space.nvec)


class Choices:
    """Independent choices of logits side by side, (B, values of all), of which illegal ones have no probability."""

    def __init__(self, sizes: Sequence[int], logits: Tensor, legal: Tensor | None) -> None:
        self.each: list[Any] = []
        for of_choice, own in zip(
            torch.split(logits, list(sizes), -1),
            [None] * len(sizes) if legal is None else torch.split(legal, list(sizes), -1),
            strict=True,
        ):
            # A choice of which nothing is legal has no mask.
            possible = None if own is None else own | ~own.any(1, keepdim=True)
            self.each.append(
                Categorical(logits=of_choice if possible is None else of_choice.masked_fill(~possible, -1e9))
            )

    def log_prob(self, action: Tensor) -> Tensor:
        return torch.stack([c.log_prob(a) for c, a in zip(self.each, action.unbind(-1), strict=True)]).sum(0)

    def entropy(self) -> Tensor:
        return torch.stack([c.entropy() for c in self.each]).sum(0)


class Policy(Plain):
    """Distributions of actions at encoded observations, which have the actions' mask behind them if there is one."""

    def __init__(self, network: Network, space: Space) -> None:
        super().__init__(network)
        self.space = space

    def forward(self, o: Tensor) -> Distribution | Choices:  # type: ignore[override]
        width = self.spec.inputs[0].width
        z, legal = self.outputs([o[:, :width]]), o[:, width:] > 0 if o.shape[1] > width else None
        if isinstance(self.space, Box):
            normal: Distribution = ippo.gaussian(z, self["log_std"])
            return normal
        if isinstance(self.space, Discrete | MultiDiscrete):
            return Choices(choices(self.space), z, legal)
        return Independent(Bernoulli(logits=z), 1)


def encoded(space: Space, action: NDArray[Any]) -> Tensor:
    """Stored actions (D, *shape) as the space's distribution takes them, (D, numbers)."""
    a = torch.from_numpy(action.reshape(len(action), -1).astype(np.float32))
    if isinstance(space, Box):
        low, high = (torch.from_numpy(b).float() for b in action_bounds(space))
        return (a - low) / (high - low) * 2 - 1
    return a - space.start if isinstance(space, Discrete) else a


def advantages_one_by_one(
    d: AgentDecisions, value: NDArray[Any], gamma: float, gae_lambda: float, mean: float = 0.0, std: float = 1.0
) -> NDArray[Any]:
    """GAE of one agent; value (V,) is said of views, in units of mean and std. k steps are discounted by gamma^k."""
    said = torch.from_numpy(value * std + mean).double()
    advantage: Tensor = ippo.gae(
        torch.from_numpy(d.reward).double(),
        said[d.here],
        said[d.after],
        torch.from_numpy(d.terminated).double(),
        1 - torch.from_numpy(d.continues).double(),
        gamma ** torch.from_numpy(d.steps).double(),
        gae_lambda,
    )
    return advantage.numpy()


def seen_by_all(spaces: EnvironmentSpaces, rollout: Rollout, agent: int, rows: NDArray[np.int64]) -> Tensor:
    """What all agents see in some rows: the agent's group first, from the agent itself on, then the other groups.

    Where rows hold the state of the whole environment, it is what the agent sees, and the state.
    """
    group = next(g for g in spaces.groups if agent in g.agents)
    at = group.agents.index(agent)
    order = [*group.agents[at:], *group.agents[:at]]
    order += [a for g in spaces.groups if g is not group for a in g.agents]
    seen, at_work = [], []
    for a in order:
        g = next(g for g in spaces.groups if a in g.agents)
        n = g.agents.index(a)
        (source,) = rollout.agents[a].source
        if spaces.state is None or a == agent:
            seen.append(ObservationEncoding.of(g.observation).encode(source[rows].reshape(len(rows), -1)))
        acts = (rollout.columns[f"{g.group_id}/active"][rows, n] > 0)[:, None]
        last = encoded(g.action, rollout.columns[f"{g.group_id}/action"][rows, n])
        if isinstance(g.action, Discrete | MultiDiscrete):
            hot = [
                torch.nn.functional.one_hot(x.long(), n) for x, n in zip(last.unbind(1), choices(g.action), strict=True)
            ]
            last = torch.cat(hot, 1)
        at_work.append(np.concatenate([acts, last.numpy() * ~acts], 1).astype(np.float32))
    if spaces.state is not None:
        state = rollout.columns["state"][rows].reshape(len(rows), -1)
        seen.append(ObservationEncoding.of(spaces.state).encode(state))
    return torch.from_numpy(np.concatenate([*seen, *(at_work if spaces.asynchronous else [])], 1))


class Alone:
    """One member of IPPO, or of MAPPO, as the configuration says."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        assert isinstance(made.algorithm, OnPolicyAlgorithm)
        self.made, self.settings, self.spaces, self.hyper = made, made.algorithm, spaces, m.hyperparameters.numbers()
        self.member_id, self.updates = m.member_id, m.updates
        self.ids = network_ids(spaces, made.algorithm.share_parameters)
        self.nets: dict[str, Plain] = {}
        for network_id, agents in self.ids.items():
            actor, critic = f"actor/{network_id}", f"critic/{network_id}"
            self.nets[actor] = Policy(m.networks[actor], spaces.agents[agents[0]].action)
            self.nets[critic] = Plain(m.networks[critic])
        self.adam = {key: torch.optim.Adam(n.parameters(), lr=self.hyper["lr"]) for key, n in self.nets.items()}
        self.scales = {key: (0.0, 1.0) for key in self.nets}
        self.rounds = 0
        self.metrics: dict[str, list[float]] = {}

    def tell(self, numbers: dict[str, float]) -> None:
        for name, x in numbers.items():
            self.metrics.setdefault(name, []).append(x)

    def update(self, rollout: Rollout) -> None:
        self.rounds += 1
        ids = list(self.ids)
        changed = np.ones(len(rollout.columns["kind"]))  # by those that have learned, in each row
        if isinstance(self.settings, MAPPOSettings) and self.settings.sequential:
            kinds = [self.spaces.agents[self.ids[i][0]] for i in ids]
            alike = [(a.observation, a.action, a.masked) for a in kinds]
            ids.sort(key=lambda i: alike.index(alike[list(self.ids).index(i)]))  # as agents of a kind are neighbours
            ids = [ids[turn] for turn in turns(self.made.training.seed, self.updates, len(ids))]
        for network_id in ids:
            self.learn(network_id, self.ids[network_id], rollout, changed)
        self.updates += 1

    def learn(self, network_id: str, agents: Sequence[int], rollout: Rollout, changed: NDArray[np.float64]) -> None:
        decisions = [rollout.agents[a] for a in agents]
        actor, critic = f"actor/{network_id}", f"critic/{network_id}"
        agent = self.spaces.agents[agents[0]]
        encoding = ObservationEncoding.of(agent.observation)
        h = self.hyper
        xs, wide, old_values, advantages = [], [], [], []
        for j, d in enumerate(decisions):
            seen = torch.from_numpy(encoding.encode(d.view.reshape(len(d.view), -1)))
            joint = seen
            if isinstance(self.settings, MAPPOSettings):
                joint = seen_by_all(self.spaces, rollout, agents[j], d.rows)
            if indicator(self.settings, tuple(agents)):
                index = torch.eye(len(agents))[j].expand(len(seen), -1)
                seen, joint = torch.cat([seen, index], 1), torch.cat([joint, index], 1)
            with torch.no_grad():
                said = self.nets[critic](joint)[:, 0].numpy()
            xs.append(seen[d.here])
            wide.append(joint[d.here])
            old_values.append(said[d.here] * self.scales[critic][1] + self.scales[critic][0])
            advantages.append(advantages_one_by_one(d, said, h["gamma"], h["gae_lambda"], *self.scales[critic]))
        x, joint = torch.cat(xs), torch.cat(wide)
        old_value, advantage = np.concatenate(old_values), np.concatenate(advantages)
        returns = advantage + old_value
        if self.settings.normalize_values and len(x):
            self.rescale(critic, returns)
        mean, std = self.scales[critic]
        old = torch.from_numpy((old_value - mean) / std).float()
        target = torch.from_numpy((returns - mean) / std).float()
        gain = torch.from_numpy(advantage).float()
        action = encoded(agent.action, np.concatenate([d.action for d in decisions]))
        masks = [torch.from_numpy(d.mask).float() for d in decisions if d.mask is not None]
        seen = torch.cat([x, torch.cat(masks)], 1) if masks else x
        chose = torch.from_numpy(np.concatenate([~d.forced for d in decisions]))
        if not len(x):
            return
        spread = np.var(returns)
        self.tell({"explained_variance": float(1 - np.var(advantage) / spread) if spread else 0.0})
        rows = np.concatenate([d.rows[d.here] for d in decisions])
        factor = torch.from_numpy(changed[rows]).float()
        with torch.no_grad():
            old_log_prob = self.nets[actor](seen).log_prob(action)
        bound = h.get("max_grad_norm", math.inf)
        keys = counter_rng.keys(self.made.training.seed, [self.member_id], [self.updates])
        for epoch in range(int(h["update_epochs"])):
            order = counter_rng.bits(keys, f"shuffle/{epoch}/{network_id}", len(x))[0].argsort(stable=True)
            divergence = 0.0
            for at in ippo.minibatches(order, int(h["batch_size"])):
                self.tell(
                    ippo.value_update(
                        self.nets[critic],
                        self.adam[critic],
                        joint[at],
                        old[at],
                        target[at],
                        h["clip_coef"] if self.settings.clip_values else math.inf,
                        h["vf_coef"],
                        bound,
                    )
                )
                at = at[chose[at]]
                if not len(at):
                    continue
                metrics = ippo.policy_update(
                    self.nets[actor],
                    self.adam[actor],
                    seen[at],
                    action[at],
                    old_log_prob[at],
                    factor[at] * ippo.normalized(gain[at]) if len(at) > 1 else torch.zeros(1),
                    h["clip_coef"],
                    h["ent_coef"],
                    bound,
                )
                self.tell(metrics)
                divergence = metrics["approx_kl"]
            if self.settings.target_kl is not None and divergence > self.settings.target_kl:
                break
        if isinstance(self.settings, MAPPOSettings) and self.settings.sequential:
            with torch.no_grad():
                ratio = (self.nets[actor](seen).log_prob(action) - old_log_prob).exp()
            np.multiply.at(changed, rows, torch.where(chose, ratio, 1).numpy())

    def rescale(self, critic: str, returns: NDArray[Any]) -> None:
        """The last layer moves against the units; those are the mixture of ten rounds at most."""
        mean, std = self.scales[critic]
        share = 1 / min(self.rounds, 10)
        change = returns.mean() - mean
        variance = (1 - share) * std**2 + share * returns.var() + share * (1 - share) * change**2
        new_mean, new_std = mean + share * change, max(variance**0.5, 1e-2)
        with torch.no_grad():
            weight, bias = self.nets[critic]["head.out.weight"], self.nets[critic]["head.out.bias"]
            weight *= std / new_std
            bias *= std / new_std
            bias += (mean - new_mean) / new_std
        self.scales[critic] = (float(new_mean), float(new_std))
