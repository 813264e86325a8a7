"""QMIX (Rashid et al., 2018): the team's value is a monotonic network of the agents' utilities.

    h     = elu(|W_1(x)| q + b_1(x))            q = (Q_1(o_1, a_1), ..., Q_N(o_N, a_N)), h of E units
    Q_tot = |w_2(x)| . h + b_2(x)

W_1, b_1, w_2 and b_2 are the outputs of a hypernetwork of x. As |W_1| and |w_2| are not negative, Q_tot rises
with every utility, and what is best for the team is what is best for each agent. An agent's weight may differ from
state to state, which a sum cannot express: in the paper's two-step game VDN finds 7 and QMIX 8.

x is the environment's own state, in one vector, where rows of the run hold it (`environment.state`), and elsewhere what
all agents observe. The published hypernetwork is one network for each of its four outputs; this one has its hidden
layers in common, so that all members' hypernetworks are one batched product a layer. What is learned of Q_tot, and how,
is in `value_decomposition`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from covey.config import Config, QMIXSettings
from covey.networks import NetworkSpec
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.roles import critic_spec, networks_by_id, state_spec
from covey_server.algorithms.value_decomposition import ValueDecomposition

MIXER = "mixer/team"


class QMIX(ValueDecomposition):
    """QMIX for a population: a hypernetwork of the state, or of all agents' observations, for each member."""

    state_roles = ("mixer",)

    @classmethod
    def mixer_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe the hypernetwork, configured as the network of the environment's first agent.

        It reads the environment's state where the run has it; else an encoder for each group reads its agents'
        observations. The head gives W_1, b_1, w_2 and b_2 side by side.
        """
        assert isinstance(config.algorithm, QMIXSettings)
        ids, configs = networks_by_id(config, spaces)
        units = config.algorithm.mixing_units
        outputs = len(spaces.agents) * units + units + units + 1
        if spaces.state is not None:
            return {MIXER: state_spec(configs[next(iter(ids))], spaces.state, outputs)}
        return {MIXER: replace(critic_spec(configs, spaces, ids, next(iter(ids))), extra=0, outputs=outputs)}

    def _mix(self, utilities: Tensor, weights: Tensor | None) -> Tensor:
        assert weights is not None and isinstance(self._settings, QMIXSettings)
        units = self._settings.mixing_units
        w_1, b_1, w_2, b_2 = weights.split_with_sizes([self._agents * units, units, units, 1], -1)
        # (M, B, E, N): products of few numbers are summed along the last axis, which rounds alike in every pass.
        w_1 = w_1.unflatten(-1, (units, self._agents)).abs()
        hidden = torch.nn.functional.elu((w_1 * utilities.unsqueeze(-2)).sum(-1) + b_1)
        return (w_2.abs() * hidden).sum(-1) + b_2.squeeze(-1)
