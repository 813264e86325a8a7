"""MASAC: soft actor-critic (Haarnoja et al., 2018b) with MADDPG's joint critics (Lowe et al., 2017).

A policy pi_i is rewarded for its entropy too, alpha_i for each nat of it. For agent i with twin critics Q_i1 and Q_i2,
over joint observations x and actions a:

    a'_j ~ pi_j(. | o'_j)                                           for all agents j, by the current policies
    y    = r_i + gamma (1 - d_i) (min(Q'_i1(x', a'), Q'_i2(x', a')) - alpha_i log pi_i(a'_i | o'_i))
    L_Q  = mean (Q_i1(x, a) - y)^2 + mean (Q_i2(x, a) - y)^2

    a_i  = tanh(mu_i(o_i) + sigma_i(o_i) e),  e ~ N(0, 1)           with the gradient through mu_i and sigma_i
    L_pi = mean (alpha_i log pi_i(a_i | o_i) - min(Q_i1, Q_i2)(x, a_1, ..., a_i, ..., a_N))
    J(alpha_i) = mean -log alpha_i (log pi_i(a_i | o_i) + H_i)      H_i: minus the numbers of an action

then the critics' targets move by tau; policies have none. In L_pi the other agents' actions are samples of their
current policies (`actor_loss: joint`), or those in replay (`own`). J is that of the authors' code and of
Stable-Baselines3, with log alpha where the paper has alpha; its learning rate is the policies', as there.

Where agents act at different times, x' is where agent i acts again, and so is its entropy; gamma is raised to the
number of env steps in between. A next action that the environment forces has no entropy.

Dims: M members of the pass, B samples, N agents, T = 2 critics of one agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from covey.config import AlgorithmSettings, Config, MASACSettings
from covey.errors import SpaceError
from covey.networks import NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import Box, EnvironmentSpaces, leaves
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms.advantages import power
from covey_server.algorithms.joint_action import CHOSE
from covey_server.algorithms.losses import critic_loss, soft_policy_loss, td_target
from covey_server.algorithms.maddpg import MADDPG
from covey_server.algorithms.schedules import scheduled
from covey_server.algorithms.squashed_gaussian import SquashedGaussians
from covey_server.algorithms.temperatures import Temperatures
from covey_server.experience.batch import Batch
from covey_server.member import Member, MemberSizes, Network, Temperature
from covey_server.packing.networks_by_role import Pass


class MASAC(MADDPG):
    """MASAC for a population: squashed Gaussian policies, twin joint critics, a temperature for each policy.

    Args:
        config: The run's configuration.
        spaces: Spaces of the environment.
        members: The population; see `OffPolicy`.
        device: Where training happens.
        population: As `Algorithm` has it.
    """

    critic_roles: ClassVar[tuple[str, ...]] = ("critic_1", "critic_2")

    # -- what a run consists of -----------------------------------------------------------------------------------

    @classmethod
    def check_actions(cls, settings: AlgorithmSettings, spaces: EnvironmentSpaces) -> None:
        """Refuse actions that are no floating-point Boxes, or Dicts and Tuples of them.

        Raises:
            SpaceError: the error names the agent, and algorithms that can learn there.
        """
        for agent in spaces.agents:
            for leaf in leaves(agent.action):
                where = f"action {leaf.name!r}" if leaf.path else "action"
                if not isinstance(leaf.space, Box):
                    raise SpaceError(
                        f"{where} of agent {agent.agent_id!r}: {type(leaf.space).__name__}, expected a Box with "
                        f"{settings.name}; use MADDPG, MATD3 or IPPO"
                    )
                if np.dtype(leaf.space.dtype).kind != "f":
                    raise SpaceError(
                        f"{where} of agent {agent.agent_id!r}: Box of {leaf.space.dtype}, expected floating-point "
                        f"numbers with {settings.name}; use MADDPG or MATD3"
                    )

    @classmethod
    def network_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe a member's networks: policies with a mean and a log deviation a number, and twin joint critics."""
        specs = super().network_specs(config, spaces)
        return {key: replace(s, outputs=2 * s.outputs) if key.startswith("actor/") else s for key, s in specs.items()}

    @classmethod
    def networks(cls, config: Config, spaces: EnvironmentSpaces, rng: np.random.Generator) -> dict[str, Network]:
        """Make one member's networks with initial weights; policies have no targets but, if learned, temperatures.

        Raises:
            SpaceError, ConfigError: as `Algorithm.networks`.
        """
        assert isinstance(config.algorithm, MASACSettings)
        networks = super().networks(config, spaces, rng)
        for key, network in networks.items():
            if key.startswith("actor/"):
                network.target = None
                network.temperature = Temperature() if config.algorithm.ent_coef == "auto" else None
        return networks

    @classmethod
    def exploration(cls, config: Config, member: Member) -> Exploration:
        """Say how actors explore: they sample actions from the policy, without added noise."""
        del config, member
        return Exploration(kind=Exploration.KIND_SAMPLE)

    # -- learning -------------------------------------------------------------------------------------------------

    def __init__(
        self,
        config: Config,
        spaces: EnvironmentSpaces,
        members: Sequence[Member],
        device: torch.device | str = "cpu",
        population: Sequence[MemberSizes] | None = None,
    ) -> None:
        super().__init__(config, spaces, members, device, population)
        settings = config.algorithm
        assert isinstance(settings, MASACSettings)
        ids = network_ids(spaces, settings.share_parameters)
        self._policies = SquashedGaussians(spaces, self._order.agents, self._device)
        auto = settings.target_entropy == "auto"
        targets = [-spaces.agents[a[0]].action.width if auto else float(settings.target_entropy) for a in ids.values()]
        self._temperatures = Temperatures(members, ids, settings.ent_coef, targets, self._device)
        self._soft_gradients_of_critics = self._updates.pure(type(self)._soft_critic_gradients)
        self._soft_gradients_of_policies = self._updates.pure(type(self)._soft_policy_gradients)

    def learn(self, chosen: tuple[int, ...], batch: Batch, keys: Tensor) -> None:
        """Make one update of some members from a batch that was drawn; see `OffPolicy`."""
        self._temperatures.set_rates(scheduled(self._config, self._members, self._own_lr)["lr_actor"])
        super().learn(chosen, batch, keys)

    def _learn_critics(self, chosen: tuple[int, ...], batch: Batch, weight: Tensor, keys: Tensor) -> None:
        critics = self._critics.select(chosen)
        gradients, losses = self._soft_gradients_of_critics(
            self,
            critics,
            self._actors.select(chosen),
            batch,
            weight,
            self._policies.draws(keys, weight.shape[-1], "next_action"),
            self._vectors.of("gamma", chosen).unsqueeze(-1),
            self._temperature(chosen, weight),
        )
        critics.move(gradients, self._settings.max_grad_norm_critic)
        self._add_losses("critic_loss", chosen, losses)

    def _soft_critic_gradients(
        self, critics: Pass, actors: Pass, batch: Batch, weight: Tensor, normals: Tensor, gamma: Tensor, alpha: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the gradients of the critics' TD losses, a matrix for each stack of networks, and members' losses."""
        next_outputs = self._inputs.outputs(actors, "frozen", batch.next_observation)
        sampled = self._policies.sample(next_outputs, normals)
        action = self._joint.bound(sampled.action, batch.next_part, batch.next_action)
        next_values = critics.values(
            "target", batch.next_observation, self._joint.critic_extra(action, batch.next_part)
        )
        smaller = torch.minimum(*self._order.by_twin(next_values))
        target = td_target(
            self._order.numbers(batch.reward),
            self._order.numbers(batch.terminated),
            gamma if batch.steps is None else power(gamma, self._order.numbers(batch.steps)),
            smaller - alpha * self._own_next(sampled.log_prob, batch.next_part),
        )
        values = critics.values("learn", batch.observation, self._joint.critic_extra(batch.action, batch.part))
        losses, grad_values = critic_loss(self._order.by_twin(values), target, weight)
        return critics.value_gradients(grad_values.reshape(values.shape)), losses

    def _own_next(self, log_prob: Tensor, part: Tensor | None) -> Tensor:
        """Take from log-probabilities of next actions those at which agents' own decisions close: (N, M, B).

        Where agents act at different times, log_prob is (N, N, M, B): of each agent in each agent's next row. What an
        agent does not choose there has no entropy, and counts 0.
        """
        if part is None:
            return log_prob
        each = enumerate(self._order.agents)
        return torch.stack([log_prob[i, agent] * (part[agent, ..., agent] == CHOSE) for i, agent in each])

    def _learn_policies(self, chosen: tuple[int, ...], batch: Batch, weight: Tensor, keys: Tensor) -> None:
        actors = self._actors.select(chosen)
        gradients, losses, log_prob = self._soft_gradients_of_policies(
            self,
            actors,
            self._critics.select(chosen),
            batch,
            weight,
            self._policies.draws(keys, weight.shape[-1], "action"),
            self._temperature(chosen, weight),
        )
        actors.move(gradients, self._settings.max_grad_norm_actor)
        self._add_losses("actor_loss", chosen, losses)
        if self._temperatures.learned:
            self._temperatures.learn(log_prob, weight, self._index(chosen))

    def _soft_policy_gradients(
        self, actors: Pass, critics: Pass, batch: Batch, weight: Tensor, normals: Tensor, alpha: Tensor
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Compute the gradients of the policies' losses, a matrix for each stack of networks.

        Returns:
            The gradients, each member's loss, and the log-probabilities of the agents' samples, (N, M, B).
        """
        sampled = self._policies.sample(self._inputs.outputs(actors, "learn", batch.observation), normals)
        # An actor climbs its own critics alone: the others' actions are context, current or as they were.
        others = batch.action
        if self._settings.actor_loss == "joint":
            others = self._joint.bound(sampled.action, batch.part, batch.action)
        own = self._joint.own_difference(sampled.action, others)
        values = critics.values("frozen", batch.observation, self._joint.critic_extra(others, batch.part), own)
        losses, grad_values, grad_log_prob = soft_policy_loss(
            self._order.by_twin(values), sampled.log_prob, alpha, weight
        )
        # An agent's own action reaches both of its critics, of which only the smaller one has a gradient.
        by_twin = critics.own_grads(grad_values.reshape(values.shape)).unflatten(0, (len(grad_values), -1))
        grad_action = self._joint.side_by_side(by_twin[0] + by_twin[1])
        return actors.agent_gradients(sampled.backward(grad_action, grad_log_prob)), losses, sampled.log_prob

    def _temperature(self, chosen: tuple[int, ...], like: Tensor) -> Tensor:
        """Return the agents' temperatures, (N, M, 1)."""
        return self._temperatures.of(self._index(chosen)).to(like.dtype).unsqueeze(-1)

    def _index(self, chosen: tuple[int, ...]) -> Tensor | None:
        return None if len(chosen) == len(self._members) else self._vectors.index(chosen)

    def unpack(self) -> None:
        """Copy what was learned back into the members, temperatures included."""
        super().unpack()
        self._temperatures.unpack()

    def metrics(self) -> dict[int, dict[str, float]]:
        """Return "critic_loss" and "actor_loss" as `OffPolicy`, and the mean temperature "ent_coef" as it is now."""
        found = super().metrics()
        for member, alpha in zip(self._members, self._temperatures.means(), strict=True):
            if found[member.member_id]:
                found[member.member_id]["ent_coef"] = alpha
        return found
