"""What one update of off-policy members learns from.

Dims: M members, B samples each, N agents in environment order, A width of all agents' actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Decisions drawn for M members, padded to the largest batch; observations are float32, as networks read them.

    As long as every agent has chosen an action in every row, `part`, `steps`, `next_action` and `next_part` are None.
    Otherwise an agent's decision closes in a row of its own, and what begins with `next_` has the agents as another
    dim in front: (N, M, B, ...).

    Attributes:
        observation: Per group, (M, B, agents of the group * width); zeros for agents that are not there.
        action: (M, B, A), Box mapped to [-1, 1] and Discrete as one-hot, agents in environment order; of agents that
            wait the action that binds them, zeros for those that are not there.
        legal: (M, B, A), false for Discrete actions that the agent's mask forbids; None without masks.
        part: (M, B, N), each agent's `Part`.
        reward: (M, B, N), the sum until the decision closes.
        steps: (M, B, N), env steps until then.
        terminated: (M, B, N), 1 where the agent's episode ended by the environment's rules; a truncated decision is 0.
        weight: (M, B, N), 1 where the agent's decision closes and the sample is one of the member's own, not padding.
        next_observation: Per group, as `observation`, of the row at which the decision closes.
        next_action: As `action`, of that row: what agents are bound to that do not choose there.
        next_legal: As `legal`, of that row.
        next_part: As `part`, of that row; the agent whose decision closes chooses there, unless it is forced.
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

    def tensors(self) -> list[Tensor]:
        """All that there are, in the order of the fields."""
        values = [getattr(self, f.name) for f in fields(self)]
        return [x for v in values for x in (v if isinstance(v, tuple) else (v,)) if x is not None]

    def of(self, tensors: Sequence[Tensor]) -> Batch:
        """The same with other tensors, as `tensors` gives them."""
        given = iter(tensors)
        values: list[Any] = []
        for f in fields(self):
            v = getattr(self, f.name)
            values.append(tuple(next(given) for _ in v) if isinstance(v, tuple) else None if v is None else next(given))
        return Batch(*values)
