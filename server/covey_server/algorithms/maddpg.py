"""MADDPG (Lowe et al., 2017): a deterministic policy per agent, and a critic of it that sees and knows everything.

For agent i with policy mu_i and critic Q_i, over joint observations x and actions a:

    y   = r_i + gamma (1 - d_i) Q'_i(x', mu'_1(o'_1), ..., mu'_N(o'_N))
    L_Q = mean (Q_i(x, a) - y)^2
    L_mu = -mean Q_i(x, a_1, ..., mu_i(o_i), ..., a_N)

then every target moves by tau. In L_mu the other agents' actions are those of their current policies
(`actor_loss: joint`) or those in replay (`own`, as published); the gradient goes to mu_i alone.

Where agents act at different times, x' is where agent i acts again, r_i the sum of its rewards until then, and gamma
is raised to the number of env steps in between. Agents that wait or are forced keep the action that binds them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from covey_server.algorithms.action_heads import Draws
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.member import Member


class MADDPG(OffPolicy):
    """MADDPG for a population: one joint critic per agent; every update moves critics, policies and targets."""

    def _target_draws(self, keys: Tensor, samples: int) -> None:
        return None

    def _next_action(self, outputs: Sequence[Tensor], draws: Draws | None, legal: Tensor | None) -> Tensor:
        return self._heads.greedy(outputs, legal)

    def _next_value(self, values: Tensor) -> Tensor:
        return values[0]

    def _policy_due(self, member: Member) -> bool:
        return True
