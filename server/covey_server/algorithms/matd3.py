"""MATD3 (Ackermann et al., 2019): MADDPG with the three corrections of TD3 (Fujimoto et al., 2018).

    a'  = clip(mu'(o') + clip(noise, -c, c), -1, 1)              target-policy smoothing
    y   = r_i + gamma (1 - d_i) min(Q'_i1(x', a'), Q'_i2(x', a'))     the smaller of two critics
    L_Q = mean (Q_i1(x, a) - y)^2 + mean (Q_i2(x, a) - y)^2

and policies (by Q_i1) and all targets move only with every `policy_freq`-th update of a member.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from covey.config import MATD3Hyperparameters, MATD3Settings
from covey_server.algorithms.action_heads import Draws
from covey_server.algorithms.off_policy import OffPolicy
from covey_server.member import Member


class MATD3(OffPolicy):
    """MATD3 for a population: twin joint critics per agent, smoothed target actions, delayed policy updates."""

    critic_roles: ClassVar[tuple[str, ...]] = ("critic_1", "critic_2")

    def _target_draws(self, keys: Tensor, samples: int) -> Draws:
        return self._heads.target_draws(keys, samples)

    def _next_action(self, outputs: Sequence[Tensor], draws: Draws | None, legal: Tensor | None) -> Tensor:
        settings = self._settings
        assert draws is not None and isinstance(settings, MATD3Settings)
        return self._heads.smoothed(outputs, draws, settings.target_noise, settings.target_noise_clip, legal)

    def _next_value(self, values: Tensor) -> Tensor:
        return torch.minimum(*values)

    def _policy_due(self, member: Member) -> bool:
        return member.updates % member.own(MATD3Hyperparameters).policy_freq == 0
