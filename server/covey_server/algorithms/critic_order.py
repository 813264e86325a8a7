"""In which order stacked critics score agents: network by network.

It differs from the environment's order only where groups that share parameters are interleaved: with agents a_0, b_0,
a_1, b_1 and one network for each group, critics score agents 0, 2, 1, 3.

Dims: M members, B samples, N agents, T critics that score one agent (2 twins in MATD3).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class CriticOrder:
    """Reorders batches from the environment's order of agents to that in which critics score them, and weighs samples.

    Args:
        ids: Agents by network id, in the order of the critics' keys.
        twins: T.
        device: Where updates are computed.

    Attributes:
        agents: The agents in this order.
        twins: T.
        networks: How many networks score the agents, not counting twins.
        sharing: (agents, agents) float, 1 where two agents, in this order, have one network; None where none do.
    """

    def __init__(self, ids: Mapping[str, tuple[int, ...]], twins: int, device: torch.device) -> None:
        self.agents = [agent for own in ids.values() for agent in own]
        self.twins, self.networks = twins, len(ids)
        in_order = self.agents == sorted(self.agents)
        self._index = None if in_order else torch.tensor(self.agents, device=device)
        network = torch.tensor([k for k, own in enumerate(ids.values()) for _ in own], device=device)
        shared = len(ids) < len(self.agents)
        self.sharing = (network.unsqueeze(0) == network.unsqueeze(1)).float() if shared else None

    def numbers(self, by_agent: Tensor) -> Tensor:
        """Reorder (members, samples, agents) in environment order to (agents, members, samples) as critics do."""
        x = by_agent.permute(2, 0, 1)
        return x if self._index is None else x.index_select(0, self._index)

    def weights(self, weight: Tensor) -> Tensor:
        """Return weights (agents, members, samples) that sum to 1 over the samples of each critic network.

        Args:
            weight: (members, samples, agents), 1 where a network learns from the agent's sample and 0 where not.
        """
        weights = self.numbers(weight).contiguous()
        total = weights.sum(-1)
        if self.sharing is not None:
            total = self.sharing @ total  # over all agents that the network scores
        return weights / total.clamp_(min=1).unsqueeze(-1)

    def by_twin(self, values: Tensor) -> Tensor:
        """Reshape the critics' values (T * N, M, B) to (T, N, M, B): by twin, agent, member and sample."""
        return values.view(self.twins, -1, *values.shape[1:])
