"""Prepares on-policy rollouts for PPO: all decisions of a network's agents, pooled, encoded, flat on the device.

A network's decisions are those of all agents that it plays, each with its own observation, action, mask and outcome.

Dims: R pairs of a policy and a value (ids, each for the members due in turn), V views and D decisions of all of them,
pair by pair; W numbers that the widest network reads, O outputs of the widest policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from covey.spaces import leaves
from covey_server.algorithms.agent_types import AgentType, joint_width
from covey_server.algorithms.joint_view import JointView
from covey_server.algorithms.round_inputs import AgentRound, RoundInputs, round_inputs
from covey_server.experience.observations import TorchEncoding
from covey_server.experience.rollouts import AgentDecisions, Rollout

AgentRounds = Sequence[tuple[AgentDecisions, int]]
"""Decisions of one agent in one member's round each, and the agent's index among those that share its network."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """Rollouts of all networks that learn in one batch, as flat tensors of observations ("views") and decisions.

    R pairs of a policy and a value network, V views, D decisions, W inputs and O outputs of the widest policy.

    An agent's views are the rows of its round in which it saw something to decide on, each kept once; a decision leads
    from one of them to another. Example: a pair with two agents, which saw 3 and 2 views and made 2 and 1 decisions:

        inputs       view 0 of agent 0, 1, 2, view 0 of agent 1, 1         V = 5
        here         0, 1, 3                                               D = 3
        after        1, 2, 4
        continues    1, 0, 0                                               two trajectories, the longest of 2

    Attributes:
        inputs: Gives what policies read in the V views, W numbers each, zero-padded to the widest.
        value_inputs: Gives what value networks read there; the same object unless they see more than policies.
        device: Where the tensors are.
        view_counts: (R,) views of each pair.
        here: (D,) int64, the view where the decision was made.
        after: (D,) int64, the view where the decision closed.
        counts: (R,) decisions of each pair.
        action: (D, O), encoded by the distribution of the agent's type.
        mask: (D, O), or None where no agent has masks.
        chosen: (D,) 1 where the agent chose, 0 where the environment did.
        steps: (D,) env steps that the decision took.
        reward: (D,) sum over these steps.
        terminated: (D,) 1 or 0.
        continues: (D,) 1 where the next element is the same agent's next decision.
        longest: Decisions of the longest trajectory.
        forced: Whether the environment chose anywhere.
        begins: (D,) bool, whether no other decision continues to this one.
        starts: (F, H), what policies with memory remember before each decision that begins something; None without.
        agent_counts: Decisions of each agent's round, which stand together.
        agent_pairs: Likewise the pair that learns from it.
    """

    inputs: RoundInputs
    value_inputs: RoundInputs
    device: torch.device
    view_counts: NDArray[np.int64]
    here: Tensor
    after: Tensor
    counts: NDArray[np.int64]
    action: Tensor
    mask: Tensor | None
    chosen: Tensor
    steps: Tensor
    reward: Tensor
    terminated: Tensor
    continues: Tensor
    longest: int
    forced: bool
    begins: NDArray[np.bool_]
    starts: NDArray[np.float32] | None
    agent_counts: NDArray[np.int64]
    agent_pairs: NDArray[np.int64]

    def read(self, policies: Tensor, values: Tensor) -> Tensor:
        """Return what a pack's networks read, policies first: (A + C, B, inputs) float32.

        Args:
            policies: (A, B) views that A policies read.
            values: (C, B) views that C value networks read.
        """
        if self.value_inputs is self.inputs:
            return self.inputs.take(torch.cat([policies, values]))
        both = [
            inputs.take(views) for inputs, views in ((self.inputs, policies), (self.value_inputs, values)) if len(views)
        ]
        return both[0] if len(both) == 1 else torch.cat(both)


class Pool:
    """Pools the rollouts of agents whose networks are padded to one size and learn in one batch.

    Args:
        group: The types of agents whose networks they are.
        device: Where they learn.
        joint: What value networks see; None: the same as policies.
    """

    def __init__(self, group: Sequence[AgentType], device: torch.device, joint: JointView | None = None) -> None:
        self._group, self._device, self._joint = group, device, joint
        self._encodings = [[TorchEncoding(leaf.space, device) for leaf in leaves(own.observation)] for own in group]
        self._width = max(own.width for own in group)
        self._outputs = max(own.action.width for own in group)
        self._masked = any(own.masked for own in group)

    def __call__(self, rounds: Sequence[Rollout]) -> Pooled:
        """Pool the decisions in these rollouts, one rollout for each member that learns now."""
        # Type by type, network id by network id, member by member, agent by agent: so pairs are counted.
        by_type: list[AgentRounds] = [
            [(r.agents[a], j) for agents in own.ids.values() for r in rounds for j, a in enumerate(agents)]
            for own in self._group
        ]
        agents = [agent for its in by_type for agent, _ in its]
        sizes = [len(own_agents) for own in self._group for own_agents in own.ids.values() for _ in rounds]
        pair = np.repeat(np.arange(len(sizes)), sizes)  # of each agent's round
        views = np.array([len(agent.rows) for agent in agents])
        decisions = np.array([len(agent.here) for agent in agents])
        first_view = np.repeat(np.cumsum(views) - views, decisions)  # of each decision's agent, among all views
        forced = _joined(agents, "forced")
        continues = _joined(agents, "continues")
        inputs = self._inputs(by_type)
        return Pooled(
            inputs=inputs,
            value_inputs=inputs if self._joint is None else self._joint_inputs(self._joint, rounds),
            device=self._device,
            view_counts=np.bincount(pair, views, len(sizes)).astype(np.int64),
            here=self._put(_joined(agents, "here") + first_view),
            after=self._put(_joined(agents, "after") + first_view),
            counts=np.bincount(pair, decisions, len(sizes)).astype(np.int64),
            action=torch.cat([self._acted(own, its) for own, its in zip(self._group, by_type, strict=True)]),
            mask=self._legal(by_type) if self._masked else None,
            chosen=self._number(~forced),
            steps=self._number(_joined(agents, "steps")),
            reward=self._number(_joined(agents, "reward")),
            terminated=self._number(_joined(agents, "terminated")),
            continues=self._number(continues),
            longest=_longest_run(continues),
            forced=bool(forced.any()),
            begins=np.concatenate([[True], ~continues[:-1]])[: len(continues)],
            starts=_starts(agents),
            agent_counts=decisions,
            agent_pairs=pair,
        )

    def _inputs(self, by_type: Sequence[AgentRounds]) -> RoundInputs:
        """What policies read: observations, and the agent's one-hot index if they read one."""
        agents = [
            AgentRound(agent.rows, agent.source, encode, own.indicator, place)
            for own, encode, its in zip(self._group, self._encodings, by_type, strict=True)
            for agent, place in its
        ]
        return round_inputs(agents, self._width, self._device)

    def _joint_inputs(self, joint: JointView, rounds: Sequence[Rollout]) -> RoundInputs:
        """What value networks read that see more than their agent, in the same order as `_inputs`."""
        agents = [
            AgentRound(r.agents[a].rows, joint.sources(a, r), joint.encodings(a), own.indicator, place)
            for own in self._group
            for agents in own.ids.values()
            for r in rounds
            for place, a in enumerate(agents)
        ]
        return round_inputs(agents, joint_width(self._group, joint), self._device)

    def _acted(self, own: AgentType, agents: AgentRounds) -> Tensor:
        """Encode the actions of a type of agents, zero-padded to the widest policy's outputs: (decisions, outputs)."""
        action = own.distribution.encode(np.concatenate([agent.action for agent, _ in agents]))
        return F.pad(self._put(action), (0, self._outputs - own.action.width))

    def _legal(self, by_type: Sequence[AgentRounds]) -> Tensor:
        """Return the masks of legal actions of all decisions, (decisions, outputs); all 1 for agents without masks."""
        return torch.cat([self._legal_of(own, its) for own, its in zip(self._group, by_type, strict=True)])

    def _legal_of(self, own: AgentType, agents: AgentRounds) -> Tensor:
        masks = [agent.mask for agent, _ in agents if agent.mask is not None]
        if not masks:
            return torch.ones(sum(len(agent.here) for agent, _ in agents), self._outputs, device=self._device)
        mask = own.distribution.legal(np.concatenate(masks))
        return F.pad(self._put(mask), (0, self._outputs - own.action.width))

    def _number(self, values: NDArray[Any]) -> Tensor:
        return self._put(values.astype(np.float32))

    def _put(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)


def _joined(agents: Sequence[AgentDecisions], name: str) -> NDArray[Any]:
    """Concatenate one field of all agents' decisions."""
    return np.concatenate([getattr(agent, name) for agent in agents])


def _longest_run(continues: NDArray[np.bool_]) -> int:
    """Return the number of decisions in the longest trajectory; one ends wherever `continues` is false."""
    ends = np.flatnonzero(~continues)
    return int(np.diff(ends, prepend=-1).max(initial=0))


def _starts(agents: Sequence[AgentDecisions]) -> NDArray[np.float32] | None:
    """Join what all agents' policies remember before decisions that begin something; zeros for those without memory."""
    size = max((0 if agent.starts is None else agent.starts.shape[1] for agent in agents), default=0)
    if not size:
        return None
    joined = []
    for agent in agents:
        begun = int(len(agent.here) - agent.continues[:-1].sum()) if len(agent.here) else 0
        own = np.zeros((begun, size), np.float32)
        if agent.starts is not None:
            own[:, : agent.starts.shape[1]] = agent.starts
        joined.append(own)
    return np.concatenate(joined)
