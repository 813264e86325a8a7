"""The minibatch from replay with which several population members are updated in one batch.

Dims: M members, B samples each, N agents in environment order, A width of all agents' actions side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """A minibatch of decisions for each of M population members, padded to the largest batch size, B.

    A decision is what an agent does when it acts; it closes when that agent acts again or its episode ends.

    As long as every agent has chosen an action in every row of the replay memory, `part`, `steps`, `next_action` and
    `next_part` are None. Otherwise each agent's decision closes in a row of its own, and the fields that begin with
    `next_` have one more leading dim for the agent whose decision it is: (N, M, B, ...).

    Attributes:
        observation: Per group, (M, B, agents of the group * width); zeros for agents that are not there.
        action: (M, B, A), Box mapped to [-1, 1] and choices as one-hot, agents in environment order; for an agent that
            waits the action that it is bound to, zeros for agents that are not there.
        legal: (M, B, A) bool, false for values of choices that the agent's mask forbids; None without masks.
        part: (M, B, N) uint8, each agent's `Part` in the row.
        reward: (M, B, N), sum of the agent's rewards until its decision closes.
        steps: (M, B, N) int32, env steps until the decision closes.
        terminated: (M, B, N), 1 where the agent's episode ended by the environment's rules; a truncated decision is 0.
        weight: (M, B, N), 1 where the agent's decision closes and the sample is one of the member's batch size, 0 where
            it
            is padding.
        next_observation: As `observation`, of the row in which the decision closes.
        next_action: As `action`, of that row: the actions to which agents that do not choose there are bound.
        next_legal: As `legal`, of that row.
        next_part: As `part`, of that row; the agent whose decision closes chooses there, unless it is forced.
        state: (M, B, width), the state of the whole environment, encoded as observations are; None where rows do not
            hold it.
        next_state: As `state`, of the row in which the decision closes.
    """

    observation: tuple[Tensor, ...]
    action: Tensor
    legal: Tensor | None
    part: Tensor | None
    reward: Tensor
    steps: Tensor | None
    terminated: Tensor
    weight: Tensor
    next_observation: tuple[Tensor, ...]
    next_action: Tensor | None
    next_legal: Tensor | None
    next_part: Tensor | None
    state: Tensor | None = None
    next_state: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the batch in the order of its fields, without those that are None."""
        values = [getattr(self, f.name) for f in fields(self)]
        return [x for v in values for x in (v if isinstance(v, tuple) else (v,)) if x is not None]

    def of(self, tensors: Sequence[Tensor]) -> Batch:
        """Make a batch of the same form from other tensors, given in the order in which `tensors` returns them."""
        # A recorded update owns copies of a batch's tensors; this puts them back into the form of a batch.
        given = iter(tensors)
        values: list[Any] = []
        for f in fields(self):
            v = getattr(self, f.name)
            values.append(tuple(next(given) for _ in v) if isinstance(v, tuple) else None if v is None else next(given))
        return Batch(*values)
