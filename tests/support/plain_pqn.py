"""PQN, one member and one agent after the other, in plain PyTorch; and rollouts of teams that lose agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tests.support.plain_examples import ippo
from tests.support.plain_off_policy import Plain
from tests.support.plain_value_decomposition import team_episode
from torch import Tensor, nn

from covey.config import Config, PQNSettings
from covey.networks.resolve import network_ids
from covey.rows import Columns, RowKind
from covey.spaces import Discrete, EnvironmentSpaces
from covey_server.experience.rollouts import Rollouts
from covey_server.experience.stream import Stream
from covey_server.member import Member
from covey_server.packing import counter_rng

Step = tuple[Columns, int]
"""An env step: rows, and its row among them; the row behind it has what followed."""


@dataclass
class Played:
    """What one member has played: as the learner holds it, and env step by env step."""

    rollouts: Rollouts
    trajectories: list[list[Step]] = field(default_factory=list)


def played(
    spaces: EnvironmentSpaces, member_id: int, steps: int, seed: int, losses: bool = True, slots: int = 2
) -> Played:
    """A rollout of so many env steps of each slot, in fragments of up to 9; episodes of 7 that end in either way."""
    rng = np.random.default_rng([seed, member_id])
    result = Played(Rollouts(spaces))
    whole = [
        _joined([team_episode(spaces, rng, 7, losses, ending) for ending in _ENDINGS[slot]]) for slot in range(slots)
    ]
    at, open_at = [0] * slots, [-1] * slots
    for first in range(0, steps, 9):
        parts = []
        for slot in range(slots):
            rows, at[slot] = _fragment(whole[slot], at[slot], min(9, steps - first))
            parts.append(rows)
        columns = _joined(parts)
        streams, begin = [], 0
        for slot, rows in enumerate(parts):
            count = len(rows["kind"])
            streams.append(Stream(slot, member_id, begin, count, 0, min(9, steps - first), False))
            for r in range(begin, begin + count):
                anybody = any(np.asarray(columns[f"{g.group_id}/active"])[r].any() for g in spaces.groups)
                if columns["kind"][r] == RowKind.STEP and anybody:
                    if open_at[slot] < 0:
                        open_at[slot] = len(result.trajectories)
                        result.trajectories.append([])
                    result.trajectories[open_at[slot]].append((columns, r))
                elif columns["kind"][r] == RowKind.FINAL:
                    open_at[slot] = -1
            begin += count
        result.rollouts.insert(member_id, columns, streams, "actor")
    return result


def together(all_played: Mapping[int, Played]) -> Rollouts:
    """What several members have played, as one memory holds it."""
    merged = Rollouts(next(iter(all_played.values())).rollouts._spaces)
    for member_id, own in all_played.items():
        for held in own.rollouts._rounds[member_id].fragments:
            merged.insert(member_id, held.columns, held.streams, held.actor)
    return merged


def team_rollouts(spaces: EnvironmentSpaces, steps: Mapping[int, int], seed: int) -> Rollouts:
    """Rollouts of several members, member id to env steps of each of two slots."""
    return together({own: played(spaces, own, count, seed) for own, count in steps.items()})


_ENDINGS = (("terminated", "truncated") * 6, ("truncated", "terminated") * 6)


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _fragment(whole: Columns, at: int, steps: int) -> tuple[Columns, int]:
    """So many env steps from a row on; in the middle of an episode a tail row follows."""
    end = at
    while steps:
        steps -= whole["kind"][end] == RowKind.STEP
        end += 1
    final = whole["kind"][end] == RowKind.FINAL
    rows = {name: column[at : end + 1].copy() for name, column in whole.items()}
    if final:
        return rows, end + 1
    rows["kind"][-1] = RowKind.TAIL
    for name, column in rows.items():
        if name.rpartition("/")[2] in ("action", "reward", "terminated", "truncated"):
            column[-1] = 0
    return rows, end


class Alone:
    """One member that learns by PQN alone, env step by env step in plain PyTorch, to compare packed learning with."""

    def __init__(self, made: Config, spaces: EnvironmentSpaces, m: Member) -> None:
        assert isinstance(made.algorithm, PQNSettings)
        self.made, self.settings, self.spaces, self.hyper = made, made.algorithm, spaces, m.hyperparameters.numbers()
        self.member_id, self.updates = m.member_id, m.updates
        self.ids = network_ids(spaces, made.algorithm.share_parameters)
        self.nets = {key: Plain(n).double() for key, n in m.networks.items()}
        self.adam = {key: torch.optim.Adam(n.parameters(), self.hyper["lr"]) for key, n in self.nets.items()}
        self.losses: list[float] = []

    def seen(self, steps: Sequence[Step], agent: int, behind: int = 0) -> Tensor:
        """What the agent observes in these env steps, or in the rows behind them, with its index."""
        group = next(g for g in self.spaces.groups if agent in g.agents)
        rows = [np.asarray(columns[f"{group.group_id}/observation"])[r + behind] for columns, r in steps]
        x = torch.from_numpy(np.stack(rows)[:, group.agents.index(agent)]).double()
        agents = next(own for own in self.ids.values() if agent in own)
        if self.settings.agent_indicator and len(agents) > 1:
            x = torch.cat([x, torch.eye(len(agents), dtype=torch.double)[agents.index(agent)].expand(len(x), -1)], 1)
        return x

    def utility(self, x: Tensor, agent: int) -> Tensor:
        """Of all the agent's actions, (steps, actions)."""
        network_id = next(i for i, own in self.ids.items() if agent in own)
        outputs: Tensor = self.nets[f"actor/{network_id}"](x)
        return outputs

    def of_agent(self, step: Step, name: str, agent: int, behind: int = 0) -> Any:
        group = next(g for g in self.spaces.groups if agent in g.agents)
        return np.asarray(step[0][f"{group.group_id}/{name}"])[step[1] + behind, group.agents.index(agent)]

    def returns(self, trajectory: Sequence[Step]) -> list[float]:
        """The lambda returns of a trajectory, from its end to its beginning."""
        gamma, lambda_ = self.hyper["gamma"], self.hyper["q_lambda"]
        agents = range(len(self.spaces.agents))
        with torch.no_grad():
            next_q = [self.utility(self.seen(trajectory, a, 1), a).numpy() for a in agents]
        found: list[float] = []
        for t in reversed(range(len(trajectory))):
            step = trajectory[t]
            y = 0.0
            for a in agents:
                if not self.of_agent(step, "active", a):
                    continue
                y += self.settings.reward_scale * float(self.of_agent(step, "reward", a))
                if self.of_agent(step, "terminated", a):
                    continue
                legal = np.ones(len(next_q[a][t]), bool)
                if self.spaces.agents[a].masked and self.of_agent(step, "action_mask", a, 1).any():
                    legal = self.of_agent(step, "action_mask", a, 1) > 0
                goes_on = found and self.of_agent(trajectory[t + 1], "active", a)
                y += gamma * (1 - lambda_ if goes_on else 1) * next_q[a][t][legal].max()
            found.append(y + (gamma * lambda_ * found[-1] if found else 0.0))
        return found[::-1]

    def update(self, trajectories: Sequence[Sequence[Step]]) -> None:
        steps = [step for trajectory in trajectories for step in trajectory]
        target = torch.tensor([y for its in trajectories for y in self.returns(its)], dtype=torch.double)
        keys = counter_rng.keys(self.made.training.seed, [self.member_id], [self.updates])
        for epoch in range(int(self.hyper["update_epochs"])):
            order = counter_rng.bits(keys, f"shuffle/{epoch}", len(steps))[0].argsort(stable=True)
            for at in ippo.minibatches(order, int(self.hyper["batch_size"])):
                self.step([steps[int(i)] for i in at], target[at])
        self.updates += 1

    def step(self, steps: Sequence[Step], target: Tensor) -> None:
        value = torch.zeros(len(steps), dtype=torch.double)
        for a, agent in enumerate(self.spaces.agents):
            assert isinstance(agent.action, Discrete)
            q = self.utility(self.seen(steps, a), a)
            acts = torch.tensor([bool(self.of_agent(step, "active", a)) for step in steps])
            did = [
                int(self.of_agent(step, "action", a)) - agent.action.start if acts[b] else 0
                for b, step in enumerate(steps)
            ]
            value = value + acts * q[torch.arange(len(steps)), did]
        loss = (value - target).square().mean()
        for optimiser in self.adam.values():
            optimiser.zero_grad()
        loss.backward()
        for key, optimiser in self.adam.items():
            if self.settings.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.nets[key].parameters(), self.settings.max_grad_norm)
            optimiser.step()
        self.losses.append(float(loss.detach()))
