"""VDN and QMIX, one member and one agent after the other, in plain PyTorch; and replays of teams that lose agents."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from tests.support.plain_off_policy import Plain
from tests.support.replays import box, config
from torch import Tensor, nn

from covey.config import Config, ValueDecompositionAlgorithm
from covey.networks.resolve import network_ids
from covey.rows import STATE, Columns, RowKind, RowSchema
from covey.spaces import AgentSpec, Discrete, EnvironmentSpaces
from covey.v1.fragment_pb2 import SlotStream
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.member import Member
from covey_server.packing import counter_rng

ALIKE = EnvironmentSpaces.build([AgentSpec(f"a_{i}", box(3), Discrete(4)) for i in range(3)])
UNLIKE = EnvironmentSpaces.build(
    [
        AgentSpec("walker_0", box(4), Discrete(2)),
        AgentSpec("talker_0", box(3), Discrete(3, start=2), masked=True),
        AgentSpec("walker_1", box(4), Discrete(2)),
        AgentSpec("talker_1", box(3), Discrete(3, start=2), masked=True),
        AgentSpec("other_0", box(3), Discrete(5)),
    ]
)


def team_episode(
    spaces: EnvironmentSpaces, rng: np.random.Generator, length: int, losses: bool, ending: str
) -> Columns:
    """The rows of a random episode, which ends by a time limit or not; agents may die, or be cut off, before that."""
    columns = RowSchema.of(spaces).empty(length + 1)
    columns["kind"][:] = [RowKind.STEP] * length + [RowKind.FINAL]
    if spaces.state is not None:
        columns[STATE][:] = 100 * rng.random(columns[STATE].shape)
    for group in spaces.groups:
        alive = np.ones((length + 1, len(group)), np.uint8)
        ends = {name: np.zeros((length + 1, len(group)), np.uint8) for name in ("terminated", "truncated")}
        ends[ending][length - 1] = 1
        for n in range(len(group)):
            if losses and rng.random() < 0.5:
                last = int(rng.integers(length))
                for flags in ends.values():
                    flags[:, n] = 0
                ends[str(rng.choice(["terminated", "truncated"]))][last, n] = 1
                alive[last + 1 :, n] = 0
        alive[length] = 0
        there = alive.astype(bool)
        seen = there.copy()
        seen[1:] |= there[:-1]  # an agent's last observation is in the row after its end
        columns[f"{group.group_id}/active"][:] = alive
        for name, flags in ends.items():
            columns[f"{group.group_id}/{name}"][:] = flags
        for name, where in (("observation", seen), ("reward", there)):
            column = columns[f"{group.group_id}/{name}"]
            column[where] = rng.normal(size=column[where].shape)
        space = group.action
        assert isinstance(space, Discrete)
        actions: Any = columns[f"{group.group_id}/action"]
        actions[there] = space.start + rng.integers(0, space.n, actions[there].shape)
        if group.masked:
            mask = columns[f"{group.group_id}/action_mask"]
            mask[there] = rng.random(mask[there].shape) < 0.6
            taken = actions - space.start
            for at in zip(*np.nonzero(there), strict=True):
                mask[(*at, int(taken[at]))] = 1
    return columns


def team_replay(
    spaces: EnvironmentSpaces, losses: bool, episodes: int = 12, length: int = 7, kind: type[Replay] = Replay
) -> Replay:
    """Random episodes, of which every second one ends by a time limit; agents may die, or be cut off, before that."""
    rng = np.random.default_rng(0)
    replay = kind(spaces, 1000, 1 << 24)
    for episode in range(episodes):
        columns = team_episode(spaces, rng, length, losses, "terminated" if episode % 2 else "truncated")
        replay.insert(columns, [SlotStream(rows=length + 1, steps=length)])
    return replay


def made_for(
    algorithm: str, shared: bool = True, hidden: tuple[int, ...] = (6,), latent: int = 5, **own: Any
) -> Config:
    """A small configuration; QMIX's mixing network has 4 units."""
    return config(algorithm, shared, hidden, latent, **({"mixing_units": 4} if algorithm == "QMIX" else {}), **own)


class Alone:
    """One member of VDN or QMIX."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        assert isinstance(made.algorithm, ValueDecompositionAlgorithm)
        self.made, self.settings, self.spaces, self.hyper = made, made.algorithm, spaces, m.hyperparameters.numbers()
        self.member_id, self.updates = m.member_id, m.updates
        self.ids = network_ids(spaces, made.algorithm.share_parameters)
        self.nets: dict[str, Plain] = {key: Plain(n) for key, n in m.networks.items()}
        self.targets = {key: copy.deepcopy(n).requires_grad_(False) for key, n in self.nets.items()}
        self.adam = {key: torch.optim.Adam(n.parameters(), self.hyper["lr"]) for key, n in self.nets.items()}
        self.losses: list[float] = []

    def utility(self, nets: dict[str, Plain], observation: list[Tensor], agent: int) -> Tensor:
        """Of all the agent's actions, (B, actions)."""
        g, group = next((g, group) for g, group in enumerate(self.spaces.groups) if agent in group.agents)
        width, k = group.observation.width, group.agents.index(agent)
        seen = observation[g][:, k * width : (k + 1) * width]
        network_id, agents = next((i, own) for i, own in self.ids.items() if agent in own)
        if self.settings.agent_indicator and len(agents) > 1:
            seen = torch.cat([seen, torch.eye(len(agents))[agents.index(agent)].expand(len(seen), -1)], -1)
        outputs: Tensor = nets[f"actor/{network_id}"](seen)
        return outputs

    def mix(self, nets: dict[str, Plain], read: list[Tensor], utilities: list[Tensor]) -> Tensor:
        """The team's value, (B,)."""
        if self.settings.name == "VDN":
            return torch.stack(utilities).sum(0)
        units, agents = self.settings.mixing_units, len(utilities)  # type: ignore[attr-defined]
        w_1, b_1, w_2, b_2 = nets["mixer/team"].outputs(read).split([units * agents, units, units, 1], -1)
        q = torch.stack(utilities, -1)
        hidden = nn.functional.elu(torch.einsum("bun,bn->bu", w_1.view(-1, units, agents).abs(), q) + b_1)
        value: Tensor = torch.einsum("bu,bu->b", w_2.abs(), hidden) + b_2[:, 0]
        return value

    def update(self, replay: Replay) -> None:
        size = int(self.hyper["batch_size"])
        keys = counter_rng.keys(self.made.training.seed, [self.member_id], [self.updates])
        loss = self.loss(replay.sample(keys, torch.tensor([size]), size))
        for optimiser in self.adam.values():
            optimiser.zero_grad()
        loss.backward()
        for key, optimiser in self.adam.items():
            if self.settings.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.nets[key].parameters(), self.settings.max_grad_norm)
            optimiser.step()
        with torch.no_grad():
            for key, target in self.targets.items():
                for theirs, own in zip(target.parameters(), self.nets[key].parameters(), strict=True):
                    theirs.lerp_(own, self.hyper["tau"])
        self.losses.append(float(loss.detach()))
        self.updates += 1

    def loss(self, batch: Batch) -> Tensor:
        """The mean over samples of (Q_tot - y)^2, sample by sample and agent by agent."""
        agents = range(len(self.spaces.agents))
        widths = [a.action.width for a in self.spaces.agents]
        acts = torch.ones_like(batch.reward[0]) if batch.part is None else (batch.part[0] == 1).float()
        # All agents that act have one next row; of those that do not, the batch says nothing about it.
        rows = [int(acts[b].argmax()) for b in range(len(acts))]

        def after(x: Tensor) -> Tensor:
            return x[0] if batch.part is None else torch.stack([x[i, 0, b] for b, i in enumerate(rows)])

        now = [x[0] for x in batch.observation]
        following = [after(x) for x in batch.next_observation]
        # What the mixer reads: the state where rows hold it.
        whole = now if batch.state is None else [batch.state[0]]
        whole_after = following if batch.next_state is None else [after(batch.next_state)]
        legal = torch.ones_like(batch.action[0]) if batch.next_legal is None else after(batch.next_legal)
        done, best = [], []
        for i in agents:
            q = self.utility(self.nets, now, i)
            done.append((q * batch.action[0].split(widths, -1)[i]).sum(-1) * acts[:, i])
            with torch.no_grad():
                choice = self.utility(self.nets, following, i)
                choice[~legal.split(widths, -1)[i].bool()] = -1e9
                q = self.utility(self.targets, following, i)
                goes_on = acts[:, i] * (1 - batch.terminated[0, :, i])
                best.append(q[torch.arange(len(q)), choice.argmax(-1)] * goes_on)
        with torch.no_grad():
            goes_on = (acts * (1 - batch.terminated[0])).amax(-1)
            next_value = self.mix(self.targets, whole_after, best)
            reward = (batch.reward[0] * acts).sum(-1)
            y = self.settings.reward_scale * reward + self.hyper["gamma"] * goes_on * next_value
        return (self.mix(self.nets, whole, done) - y).square().mean()
