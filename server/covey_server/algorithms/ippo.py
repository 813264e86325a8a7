"""IPPO (de Witt et al., 2020): PPO (Schulman et al., 2017) for every agent or group of agents by itself.

With the policy pi and the values V at the round's start, for decision t of an agent, r_t = pi'(a_t|o_t) / pi(a_t|o_t):

    A_t  = generalised advantages, R_t = A_t + V(o_t); A_t is normalised in each minibatch
    L_pi = -mean min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t) - ent_coef * mean H(pi'(.|o_t))
    L_V  = vf_coef * mean 0.5 max((V' - R_t)^2, (V + clip(V' - V, -c, c) - R_t)^2)

over `update_epochs` passes through the round in shuffled minibatches. A network whose last minibatch of a pass has
mean (r - 1 - log r) above `target_kl` learns no more from this round. What the environment chose for an agent is left
out of L_pi. Without `clip_values`, c is infinite in L_V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from covey.config import AlgorithmSettings, Config, NetConfig, OnPolicyAlgorithm
from covey.errors import SpaceError
from covey.networks import NetworkSpec
from covey.spaces import Box, EnvironmentSpaces, has_box, leaves
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms.agent_types import AgentType, padding_groups
from covey_server.algorithms.joint_view import JointView
from covey_server.algorithms.learning_group import METRICS, LearningGroup
from covey_server.algorithms.on_rounds import OnRounds
from covey_server.algorithms.roles import actor_spec, networks_by_id, value_spec
from covey_server.experience.rollouts import Rollout, Rollouts
from covey_server.member import Member, MemberSizes
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks
from covey_server.packing.policy_snapshot import PolicySnapshot


class IPPO(OnRounds):
    """PPO with independent policies and value networks; agents of a group share theirs unless that is switched off.

    Args:
        config: The run's configuration.
        spaces: Spaces of the environment.
        members: The population. `Member.updates` counts learning phases, `Network.scale` and the statistics move with
            each; everything else in a member stays as it is until `unpack`.
        device: Where training happens.
        population: As `Algorithm` has it.
    """

    normalizes = True
    state_roles: ClassVar[tuple[str, ...] | None] = ()

    @classmethod
    def check_actions(cls, settings: AlgorithmSettings, spaces: EnvironmentSpaces) -> None:
        """Refuse with a SpaceError agents whose actions are integers in a Box; all other kinds can be learned."""
        for agent in spaces.agents:
            boxes = [leaf.space for leaf in leaves(agent.action) if isinstance(leaf.space, Box)]
            if space := next((box for box in boxes if np.dtype(box.dtype).kind != "f"), None):
                raise SpaceError(
                    f"action of agent {agent.agent_id!r}: Box of {space.dtype}, expected floating-point numbers for "
                    f"{settings.name}; wrap the environment, or give it Discrete actions"
                )

    @classmethod
    def network_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe a member's networks: for each policy also a value network, which sees what the policy sees."""
        settings = config.algorithm
        assert isinstance(settings, OnPolicyAlgorithm)
        ids, configs = networks_by_id(config, spaces)
        specs = {}
        for i, agents in ids.items():
            gaussian = has_box(spaces.agents[agents[0]].action)
            specs[f"actor/{i}"] = replace(
                actor_spec(settings, configs[i], spaces, agents),
                output_gain=settings.output_gain,
                log_std=settings.action_std_init if gaussian else None,
            )
        return specs | {f"critic/{i}": cls.value_spec(settings, configs[i], spaces, ids[i]) for i in ids}

    @classmethod
    def value_spec(
        cls, settings: OnPolicyAlgorithm, network: NetConfig, spaces: EnvironmentSpaces, agents: tuple[int, ...]
    ) -> NetworkSpec:
        """Describe the value network of the agents that share one."""
        return value_spec(settings, network, spaces, agents)

    @classmethod
    def learning_groups(cls, spaces: EnvironmentSpaces, settings: OnPolicyAlgorithm) -> list[list[AgentType]]:
        """Group the agents' networks by which of them learn at once."""
        return padding_groups(spaces, settings)

    @classmethod
    def joint_view(cls, spaces: EnvironmentSpaces, device: torch.device) -> JointView | None:
        """Make what value networks read of a round; None: each reads what its policy does, the agent's observation."""
        del spaces, device
        return None

    @classmethod
    def exploration(cls, config: Config, member: Member) -> Exploration:
        """Say how actors explore: they sample actions from the policy's own distribution, without added noise."""
        del config, member
        return Exploration(kind=Exploration.KIND_SAMPLE)

    def __init__(
        self,
        config: Config,
        spaces: EnvironmentSpaces,
        members: Sequence[Member],
        device: torch.device | str = "cpu",
        population: Sequence[MemberSizes] | None = None,
    ) -> None:
        settings = config.algorithm
        assert isinstance(settings, OnPolicyAlgorithm)
        self._config, self._members = config, list(members)
        self._seed = config.training.seed
        self._device = torch.device(device)
        everybody = [MemberSizes.of(m) for m in members] if population is None else population
        groups = self.learning_groups(spaces, settings)
        joint = self.joint_view(spaces, self._device)
        self._groups = [LearningGroup(g, config, members, self._device, everybody, joint) for g in groups]
        self.passes = 0
        self.member_updates = 0

    def update(self, due: Sequence[int], experience: Rollouts) -> None:
        """Let each member in `due` (positions in the population) learn from its rollout, taken out of `experience`."""
        chosen = tuple(sorted(due))
        rounds = [experience.take(self._members[m].member_id) for m in chosen]
        self.learn_rounds(chosen, rounds)
        for m in chosen:
            self._members[m].updates += 1

    def learn_rounds(self, due: tuple[int, ...], rounds: Sequence[Rollout]) -> None:
        """Let members, by their positions in the population, learn from a rollout each."""
        for group in self._groups:
            self.learn_group(group, due, rounds)

    def learn_group(
        self,
        group: LearningGroup,
        due: tuple[int, ...],
        rounds: Sequence[Rollout],
        factors: Sequence[NDArray[np.float32]] | None = None,
    ) -> None:
        """Let a group of members' networks learn; see `LearningGroup.learn`."""
        ids, counts = zip(*((self._members[m].member_id, self._members[m].updates) for m in due), strict=True)
        keys = counter_rng.keys(self._seed, ids, counts, self._device)
        for learned in group.learn(due, rounds, keys, factors):
            self.passes += 1
            self.member_updates += learned

    def packed(self) -> Sequence[PackedNetworks]:
        """Return the stacked policies and value networks."""
        return [group.networks for group in self._groups]

    def snapshot(self) -> PolicySnapshot:
        """Copy the policies as they are now; quick, and the copy can be read on another thread."""
        return PolicySnapshot.of(self.packed(), self._members)

    def metrics(self) -> dict[int, dict[str, float]]:
        """Return losses, entropy, KL divergence and clip fraction, means since the last call, by member id."""
        taken = [group.metrics.take() for group in self._groups]
        sums, counts = (np.sum([t[i] for t in taken], axis=0) for i in range(2))
        return {
            member.member_id: {name: float(sums[i, m] / counts[i, m]) for i, name in enumerate(METRICS) if counts[i, m]}
            for m, member in enumerate(self._members)
        }
