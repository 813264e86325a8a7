"""VDN, value decomposition networks (Sunehag et al., 2018): the team's value is the sum of the agents' utilities.

    Q_tot(x, a) = Q_1(o_1, a_1) + ... + Q_N(o_N, a_N)

What is learned of it, and how, is in `value_decomposition`. The published networks also remember; these read what the
agent observes now and, where agents share one, which of them it acts for.
"""

from __future__ import annotations

from torch import Tensor

from covey.config import Config
from covey.networks import NetworkSpec
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.value_decomposition import ValueDecomposition


class VDN(ValueDecomposition):
    """VDN for a population: nothing of the mix is learned."""

    @classmethod
    def mixer_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """A sum has no networks."""
        del config, spaces
        return {}

    def _mix(self, utilities: Tensor, weights: Tensor | None) -> Tensor:
        del weights
        return utilities.sum(-1)
