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
    """

    def __init__(self, spaces: EnvironmentSpaces, scored: Sequence[int], device: torch.device) -> None:
        self.widths = [a.action.width for a in spaces.agents]
        self._agents, self._asynchronous = len(spaces.agents), spaces.asynchronous
        widths = torch.tensor(self.widths)
        self.owner = torch.arange(self._agents).repeat_interleave(widths).to(device)
        # (N, 1, 1, A), true where a column is the agent's own; and the same as factors, in the order of scores.
        self._own = self.owner == torch.arange(self._agents, device=device).view(-1, 1, 1, 1)
        self._own_scored = self._own[list(scored)].float()
        # (A,) where in the order of scores a column's agent is; and 1 / the width of that agent's action.
        self._score_of = torch.tensor(list(scored)).argsort().to(device).index_select(0, self.owner)
        self._share = (1 / widths.float()).to(device).index_select(0, self.owner)

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

    def own_beside(self, others: Tensor, own: Tensor) -> Tensor:
        """For each agent, make a joint action with its own action from `own` and all other agents' from `others`.

        M members, B samples, N agents, A numbers of the joint action.

        Returns:
            (N, M, B, A).
        """
        return torch.where(self._own, own, others)

    def own_gradient(self, input_grads: Tensor) -> Tensor:
        """Keep of each agent's gradient only that with respect to its own action; side by side, (M, B, A).

        M members, B samples, N agents, A numbers of the joint action.

        Args:
            input_grads: (N, M, B, A or more), of each agent's loss, in order of scores, with respect to all that its
                critic reads besides observations. What it says of other agents' actions is left out: an agent does not
                climb their returns.
        """
        return (input_grads[..., : len(self.owner)] * self._own_scored).sum(0)

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
