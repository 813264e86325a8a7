"""The joint action: the columns of all agents' actions side by side, in environment order.

Example of two agents, with actions of 2 and 3 numbers: A = 5, and columns belong to the agents (0, 0, 1, 1, 1).

Dims: M members, B samples, N agents, A width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from covey.spaces import EnvironmentSpaces
from covey_server.experience.parts import Part

CHOSE, FORCED = Part.CHOSE.value, Part.FORCED.value
"""As plain numbers: torch.compile compares tensors to nothing else."""


class JointAction:
    """Works on the joint action, all agents' actions side by side: whose each column is, and what critics see of it.

    Args:
        spaces: Spaces of the environment.
        scored: The agents in the order in which critics score them, see `critic_order`.
        device: Where updates are computed.

    Attributes:
        widths: Number of numbers in each agent's action.
        owner: For each number of the joint action, the agent that it belongs to.
        own_columns: For each agent, where its own action's numbers are, a of them; those of fewer are filled up.
    """

    def __init__(self, spaces: EnvironmentSpaces, scored: Sequence[int], device: torch.device) -> None:
        self.widths = [a.action.width for a in spaces.agents]
        self._agents, self._asynchronous = len(spaces.agents), spaces.asynchronous
        widths = torch.tensor(self.widths)
        self.owner = torch.arange(self._agents).repeat_interleave(widths).to(device)
        # The columns of each agent's own action, as many for all: narrower ones are filled up with column 0.
        most = max(self.widths)
        ends = widths.cumsum(0).tolist()
        self.own_columns = [
            [*range(end - width, end), *[0] * (most - width)] for end, width in zip(ends, self.widths, strict=True)
        ]
        self._own = torch.tensor(self.own_columns, device=device).flatten()
        filled = torch.arange(most) >= widths.view(-1, 1, 1, 1)
        self._filled = filled.to(device) if filled.any() else None
        # (A,) where in the order of scores a column's agent is; and 1 / the width of that agent's action.
        self._score_of = torch.tensor(list(scored)).argsort().to(device).index_select(0, self.owner)
        self._share = (1 / widths.float()).to(device).index_select(0, self.owner)
        # (A,) where a column is among the own columns of all agents side by side, in the order of scores.
        first = torch.tensor(ends) - widths
        within = torch.arange(len(self.owner)) - first.repeat_interleave(widths)
        self._among_own = self._score_of * most + within.to(device)

    def bound(self, action: Tensor, part: Tensor | None, done: Tensor | None) -> Tensor:
        """Replace the policies' actions by those in replay wherever an agent does not choose, as it waits or is forced.

        M members, B samples, N agents, A numbers of the joint action.

        Args:
            action: (..., M, B, A), of the policies.
            part: (..., M, B, N), each agent's `Part` in the row; None where everybody chooses.
            done: (..., M, B, A), the action that the row has.
        """
        if part is None or done is None:
            return action
        return torch.where((part == CHOSE).index_select(-1, self.owner), action, done)

    def own_difference(self, action: Tensor, others: Tensor) -> Tensor:
        """For each agent, say by how much its own action in `action` differs from that in `others`.

        M members, B samples, N agents, A numbers of the joint action, a of the widest agent's.

        Args:
            action: (M, B, A).
            others: (M, B, A).

        Returns:
            (N, M, B, a), zeros beyond an agent's own numbers.
        """
        columns = (action - others).index_select(-1, self._own)
        own = columns.view(*columns.shape[:-1], self._agents, -1).permute(2, 0, 1, 3)
        return own if self._filled is None else own.masked_fill(self._filled, 0)

    def side_by_side(self, own: Tensor) -> Tensor:
        """Put numbers of each agent's own action, (N, M, B, a) in the order of scores, side by side: (M, B, A).

        M members, B samples, N agents, A numbers of the joint action, a of the widest agent's.
        """
        return own.permute(1, 2, 0, 3).flatten(2).index_select(-1, self._among_own)

    def mean_weights(self, weight: Tensor) -> Tensor:
        """Spread each agent's sample weights (agents, members, samples) over the numbers of its action.

        With them, a sum over samples and columns is a weighted mean over samples of the mean over an agent's columns.
        """
        return weight.permute(1, 2, 0).index_select(-1, self._score_of) * self._share

    def critic_extra(self, action: Tensor, part: Tensor | None) -> Tensor:
        """Return what critics read besides observations: all actions and, in asynchronous environments, who acts."""
        if not self._asynchronous:
            return action
        shape = (*action.shape[:-1], self._agents)
        if part is None:
            acts = torch.ones(shape, device=action.device)
        else:
            acts = ((part == CHOSE) | (part == FORCED)).float().expand(shape)
        return torch.cat([action, acts], -1)
