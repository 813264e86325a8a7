"""MAPPO (Yu et al., 2022): PPO with policies of what agents see, and value networks of what all of them see.

"The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games".

With o_t what agent i sees and s_t what all agents see, i first:

    A_t  = generalised advantages of agent i's own rewards by V(s_t), R_t = A_t + V(s_t)
    L_pi = -mean min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t) - ent_coef * mean H(pi'(.|o_t)),
           r_t = pi'(a_t|o_t) / pi(a_t|o_t)
    L_V  = vf_coef * mean 0.5 max((V'(s_t) - R_t)^2, (V + clip(V'(s_t) - V, -c, c) - R_t)^2)

All else is IPPO's. Only learners have value networks, so actors need nothing that they do not see. Groups of agents
that play against each other each have a value network of their own, of what all see.
"""

from __future__ import annotations

import torch

from covey.config import NetConfig, OnPolicyAlgorithm
from covey.networks import NetworkSpec
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.joint_view import JointView
from covey_server.algorithms.roles import value_spec


class MAPPO(IPPO):
    """PPO for all agents, with value networks that see what all agents see."""

    @classmethod
    def value_spec(
        cls, settings: OnPolicyAlgorithm, network: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]
    ) -> NetworkSpec:
        """Describe the value network of the agents that share one: from all agents' observations to one number."""
        return value_spec(settings, network, spaces, agents, JointView(spaces, torch.device("cpu")))

    @classmethod
    def joint_view(cls, spaces: EnvironmentSpaces, device: torch.device) -> JointView:
        """What value networks see."""
        return JointView(spaces, device)
