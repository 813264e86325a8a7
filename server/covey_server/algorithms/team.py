"""What a batch says of all agents as one team: who acts, the team's reward, and who goes on.

Example of three agents. The first one acts and goes on, the second one acts and terminates, the third one died earlier:

    now present  reward        terminated  |  next present  the team's reward  the team terminated
    1 1 0        1.0 2.0 0.0   0 1 0       |  1 0 0         3.0                0

All agents act in every env step, so their decisions close in the next row, which is the same for all of them.

Dims: M members, B samples, N agents, A width of all agents' actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from covey_server.algorithms.joint_action import CHOSE, FORCED
from covey_server.experience.batch import Batch


@dataclass(frozen=True, slots=True)
class Team:
    """A minibatch of env steps of a team.

    Attributes:
        present: (M, B, N), 1 where the agent acts.
        reward: (M, B), the sum of the rewards of the agents that act.
        weight: (M, B), weights that sum to 1 over a member's samples.
        next_present: (M, B, N), 1 where the agent is to act after the env step, or would be if its episode had not been
            cut off.
        terminated: (M, B), 1 where nobody goes on.
        next_observation: Per group, (M, B, agents of the group * width).
        next_legal: (M, B, A) bool, false for values that the agent's mask forbids; None without masks.
        next_state: (M, B, width), the state of the whole environment; None where rows do not hold it.
    """

    present: Tensor
    reward: Tensor
    weight: Tensor
    next_present: Tensor
    terminated: Tensor
    next_observation: tuple[Tensor, ...]
    next_legal: Tensor | None
    next_state: Tensor | None

    @staticmethod
    def of(batch: Batch) -> Team:
        """Read the team's env steps from the decisions of its agents."""
        goes_on = 1 - batch.terminated
        if batch.part is None or batch.steps is None or batch.next_part is None:
            sample, present, next_present = batch.weight[..., 0], torch.ones_like(batch.reward), goes_on
            following, legal, state = batch.next_observation, batch.next_legal, batch.next_state
        else:
            acts = (batch.part == CHOSE) | (batch.part == FORCED)
            # Whoever acts must be followed into the very next row; all others of the batch are padding.
            closes = (batch.weight > 0) & (batch.steps == 1)
            sample = ((closes | ~acts).all(-1) & acts.any(-1)).float()
            # That row is the one in which the decision of any agent that acts closes.
            who = acts.float().argmax(-1)
            following = tuple(_of_agent(x, who) for x in batch.next_observation)
            legal = None if batch.next_legal is None else _of_agent(batch.next_legal, who)
            state = None if batch.next_state is None else _of_agent(batch.next_state, who)
            part = _of_agent(batch.next_part, who)
            present = acts.float()
            joins = ((part == CHOSE) | (part == FORCED)).float()
            next_present = torch.where(acts, goes_on, joins)
        return Team(
            present=present,
            reward=(batch.reward * present).sum(-1),
            weight=sample / sample.sum(-1, keepdim=True).clamp(min=1),
            next_present=next_present,
            terminated=1 - next_present.amax(-1),
            next_observation=following,
            next_legal=legal,
            next_state=state,
        )


def _of_agent(x: Tensor, who: Tensor) -> Tensor:
    """Choose from what there is for each agent, (N, M, B, D), that of one agent a sample, (M, B): (M, B, D)."""
    return x.gather(0, who[None, :, :, None].expand(1, *x.shape[1:])).squeeze(0)
