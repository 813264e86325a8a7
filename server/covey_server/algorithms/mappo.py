"""MAPPO (Yu et al., 2022): PPO with policies of what agents see, and value networks that see more than an agent.

"The Surprising Effectiveness of PPO in Cooperative Multi-Agent Games". With o_t what agent i sees, and s_t what its
value network reads: o_t and the environment's state of that moment, where rows of the run hold it
(`environment.state`), elsewhere what all agents see, i first:

    A_t  = generalised advantages of agent i's own rewards by V(s_t), R_t = A_t + V(s_t)
    L_pi = -mean min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t) - ent_coef * mean H(pi'(.|o_t)),
           r_t = pi'(a_t|o_t) / pi(a_t|o_t)
    L_V  = vf_coef * mean 0.5 max((V'(s_t) - R_t)^2, (V + clip(V'(s_t) - V, -c, c) - R_t)^2)

All else is IPPO's. Only learners have value networks, so actors need nothing that they do not see. Groups of agents
that play against each other each have a value network of their own.

With `sequential` it is HAPPO (Kuba et al., 2022, "Trust Region Policy Optimisation in Multi-Agent Reinforcement
Learning", algorithm 4): agents learn one after another in random order, and each takes into account what those before
it have changed. For the agent that is m-th in the order, A_t in L_pi becomes M_t A_t with

    M_t = product over the agents j before it of pi'_j(a_t^j|o_t^j) / pi_j(a_t^j|o_t^j)

Agents that share a network learn together; M_t then has the ratios of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from covey.config import MAPPOSettings, NetConfig, OnPolicyAlgorithm
from covey.networks import NetworkSpec
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.agent_types import AgentType
from covey_server.algorithms.ippo import IPPO
from covey_server.algorithms.joint_view import JointView
from covey_server.algorithms.roles import value_spec
from covey_server.experience.rollouts import Rollout
from covey_server.packing import counter_rng


class MAPPO(IPPO):
    """PPO for all agents, with value networks that see the environment's state, or what all agents see."""

    state_roles = ("critic",)

    @classmethod
    def value_spec(
        cls, settings: OnPolicyAlgorithm, network: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]
    ) -> NetworkSpec:
        """Describe the value network of the agents that share one: from what `joint_view` gives to one number."""
        return value_spec(settings, network, spaces, agents, JointView(spaces, torch.device("cpu")))

    @classmethod
    def joint_view(cls, spaces: EnvironmentSpaces, device: torch.device) -> JointView:
        """Make what value networks read of a round: the environment's state, or the observations of all agents."""
        return JointView(spaces, device)

    @classmethod
    def learning_groups(cls, spaces: EnvironmentSpaces, settings: OnPolicyAlgorithm) -> list[list[AgentType]]:
        """Group the agents' networks by which of them learn at once; each by itself where they learn in turn."""
        groups = super().learning_groups(spaces, settings)
        if not _sequential(settings):
            return groups
        types = [own for group in groups for own in group]
        return [[replace(own, ids={i: agents})] for own in types for i, agents in own.ids.items()]

    def learn_rounds(self, due: tuple[int, ...], rounds: Sequence[Rollout]) -> None:
        """Let members learn from a rollout each, their networks at once or in turn."""
        if not _sequential(self._config.algorithm):
            super().learn_rounds(due, rounds)
            return
        # Members have one order in an update of one number, so that those that are in step learn in one batch.
        by_updates: dict[int, list[int]] = {}
        for place, m in enumerate(due):
            by_updates.setdefault(self._members[m].updates, []).append(place)
        for updates, places in by_updates.items():
            members, its = tuple(due[p] for p in places), [rounds[p] for p in places]
            factors = [np.ones(len(rollout.columns["kind"]), np.float32) for rollout in its]
            for turn in turns(self._seed, updates, len(self._groups)):
                self.learn_group(self._groups[turn], members, its, factors)


def turns(seed: int, updates: int, count: int) -> list[int]:
    """Return the random order in which so many networks learn in an update of this number."""
    return counter_rng.bits(counter_rng.keys(seed, [0], [updates]), "turns", count)[0].argsort(stable=True).tolist()


def _sequential(settings: object) -> bool:
    return isinstance(settings, MAPPOSettings) and settings.sequential
