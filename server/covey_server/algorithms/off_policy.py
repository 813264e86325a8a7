"""The update that MADDPG and MATD3 share, and MASAC in parts, of all members at once in the same batched operations.

    1. target:   a' = mu'(o'),  y = r + gamma^k (1 - d) Q'(x', a')        by the target networks
    2. critics:  a step down the gradient of (Q(x, a) - y)^2
    3. policies: a step up Q_i(x, a_1, ..., mu_i(o_i), ..., a_N), for the members whose policies are due
    4. targets:  theta' += tau (theta - theta'), for the same members

What the algorithms do differently in 1 (how targets act, which critic's word counts) and 3 (when) are their methods.

Dims: M members of the pass, B samples (padded to the population's largest batch), N agents, T critics of one agent, A
width of all agents' actions. Critics score agents in the order of `critic_order`. Where agents act at different times
each has a next row of its own, and what is known of next rows has the N agents in front.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from covey.bounds.experience import stream_steps
from covey.bounds.layers import LayerOutputs, layer_outputs
from covey.config import (
    AlgorithmSettings,
    Config,
    JointCriticAlgorithm,
    JointCriticHyperparameters,
    OffPolicyAlgorithm,
    OffPolicyHyperparameters,
)
from covey.networks import NetworkSpec
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms.action_heads import ActionHeads, Draws
from covey_server.algorithms.advantages import power
from covey_server.algorithms.agent_types import MAX_PADDED_WIDTH
from covey_server.algorithms.algorithm import Algorithm
from covey_server.algorithms.critic_order import CriticOrder
from covey_server.algorithms.joint_action import CHOSE, JointAction
from covey_server.algorithms.loss_means import Loss, LossMeans
from covey_server.algorithms.losses import critic_loss, policy_loss, td_target
from covey_server.algorithms.member_vectors import MemberVectors
from covey_server.algorithms.normalised_batches import NormalisedBatches
from covey_server.algorithms.policy_inputs import PolicyInputs
from covey_server.algorithms.roles import actor_spec, critic_spec, networks_by_id
from covey_server.algorithms.schedules import scheduled
from covey_server.algorithms.statistics import kept_statistics
from covey_server.experience.batch import Batch
from covey_server.experience.replay import Replay
from covey_server.member import Member, MemberSizes
from covey_server.orders.pace import UpdatesPerStep
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks, Pass
from covey_server.packing.policy_snapshot import PolicySnapshot
from covey_server.packing.torch_ops import gradients
from covey_server.packing.updates import backend_of


class OffPolicy(Algorithm):
    """Base of MADDPG, MATD3 and MASAC: stacks the population's networks and updates them from replay.

    Args:
        config: The run's configuration.
        spaces: Spaces of the environment.
        members: The population. `Member.updates` counts on with every update; everything else in a member stays as it
            is until `unpack`.
        device: Where training happens.
        population: As `Algorithm` has it.
    """

    with_targets: ClassVar[bool] = True

    critic_roles: ClassVar[tuple[str, ...]] = ("critic",)
    """The critics of one agent; the first one teaches the policy."""

    normalizes = True
    state_roles: ClassVar[tuple[str, ...] | None] = ()

    @classmethod
    def check_actions(cls, settings: AlgorithmSettings, spaces: EnvironmentSpaces) -> None:
        """Refuse nothing: all kinds of action can be learned."""

    @classmethod
    def network_specs(cls, config: Config, spaces: EnvironmentSpaces) -> dict[str, NetworkSpec]:
        """Describe a member's networks: policies, and critics that see what all agents see and do."""
        ids, configs = networks_by_id(config, spaces)
        specs = {f"actor/{i}": actor_spec(config.algorithm, configs[i], spaces, ids[i]) for i in ids}
        for role in cls.critic_roles:
            specs |= {f"{role}/{i}": critic_spec(configs, spaces, ids, i) for i in ids}
        return specs

    @classmethod
    def layer_outputs(cls, config: Config, spaces: EnvironmentSpaces, specs: Mapping[str, NetworkSpec]) -> LayerOutputs:
        """Count what layers give for one sample: those of all critics, or of policies and the critics that teach them.

        A policy acts for each of its agents.
        """
        ids = network_ids(spaces, config.algorithm.share_parameters)
        own = {key: layer_outputs(spec) for key, spec in specs.items()}
        critics = [LayerOutputs.total(own[f"{role}/{i}"] for i in ids) for role in cls.critic_roles]
        policies = [own[f"actor/{i}"].times(len(agents)) for i, agents in ids.items()]
        both = LayerOutputs.total(critics), LayerOutputs.total([*policies, critics[0]])
        return max(both, key=lambda its: its.numbers)

    @classmethod
    def experience(cls, config: Config, spaces: EnvironmentSpaces, device: torch.device) -> Replay:
        """Make an empty replay memory, which all members share."""
        memory = config.replay_buffer
        replay = Replay(spaces, memory.max_size, memory.max_bytes, device, stream_steps(config, spaces))
        if kept_statistics(config.algorithm):
            replay.observe()
        return replay

    @classmethod
    def pace(cls, config: Config) -> UpdatesPerStep:
        """Make the rule for updates: one for every `learn_step` env steps collected for a member."""
        return UpdatesPerStep(config.learner.max_updates_owed, config.training.learning_delay)

    @classmethod
    def exploration(cls, config: Config, member: Member) -> Exploration:
        """Say how actors explore: by noise on the policy's actions, whose scale may fall linearly over the run."""
        settings = config.algorithm
        assert isinstance(settings, OffPolicyAlgorithm)
        scale = member.own(OffPolicyHyperparameters).expl_noise
        if settings.expl_noise_final is not None:
            share = min(1.0, member.env_steps / config.training.max_steps)
            scale += share * (settings.expl_noise_final - scale)
        return Exploration(
            kind=Exploration.KIND_ORNSTEIN_UHLENBECK if settings.O_U_noise else Exploration.KIND_GAUSSIAN,
            scale=scale,
            mean=settings.mean_noise,
            theta=settings.theta,
            dt=settings.dt,
        )

    def __init__(
        self,
        config: Config,
        spaces: EnvironmentSpaces,
        members: Sequence[Member],
        device: torch.device | str = "cpu",
        population: Sequence[MemberSizes] | None = None,
    ) -> None:
        assert isinstance(config.algorithm, JointCriticAlgorithm)
        self._config, self._settings = config, config.algorithm
        self._seed, self._members = config.training.seed, list(members)
        self._device = torch.device(device)
        self.passes = 0
        self.member_updates = 0
        # Which networks there are, and what is known of the agents that they play and score.
        ids = network_ids(spaces, config.algorithm.share_parameters)
        twins = self.critic_roles
        self._order = CriticOrder(ids, len(twins), self._device)
        self._joint = JointAction(spaces, self._order.agents, self._device)
        self._heads = ActionHeads(spaces, self._device)
        self._inputs = PolicyInputs(spaces, config.algorithm, ids, self._device)
        normalised = bool(kept_statistics(config.algorithm))
        self._normalise = NormalisedBatches(spaces, ids, self._members, self._device) if normalised else None
        # How updates are run. Functions are not bound to this object, which would keep itself alive, with all its
        # tensors, until garbage is collected.
        specs = [network.spec for m in members for network in m.networks.values()]
        self._updates = backend_of(config, self._device, specs)
        self._gradients_of_critics = self._updates.pure(type(self)._critic_gradients)
        self._gradients_of_policies = self._updates.pure(type(self)._policy_gradients)
        # What differs between members.
        own = [m.own(JointCriticHyperparameters) for m in members]
        values = {name: [getattr(h, name) for h in own] for name in ("gamma", "tau", "batch_size")}
        self._vectors = MemberVectors(values, self._device)
        self._own_lr = {name: np.array([getattr(h, name) for h in own]) for name in ("lr_actor", "lr_critic")}
        networks: dict[Loss, int] = {"critic_loss": len(twins) * len(ids), "actor_loss": len(ids)}
        self._losses = LossMeans(networks, len(members), self._device)
        # How many samples batches have and packs compute: by the sizes of the whole population, whoever is due.
        self._population = [MemberSizes.of(m) for m in members] if population is None else population
        self._samples = [self._updates.padded(m.hyperparameters.batch_size) for m in self._population]
        # The networks of all members, packed.
        widths = [n for a in spaces.agents for n in (a.stacked.width, a.action.width)]
        self._actors = self._packed(["actor"], ids, widen=max(widths) <= MAX_PADDED_WIDTH)
        self._critics = self._packed(twins, ids, own_extra=self._joint.own_columns)

    def _packed(
        self,
        roles: Sequence[str],
        ids: dict[str, tuple[int, ...]],
        *,
        widen: bool = False,
        own_extra: Sequence[Sequence[int]] = (),
    ) -> PackedNetworks:
        return PackedNetworks(
            self._members,
            {f"{role}/{i}": agents for role in roles for i, agents in ids.items()},
            self._device,
            widen=widen,
            multiple=self._updates.multiple,
            population=self._population,
            # What is compiled for few shapes computes all samples of the largest batch in every pack.
            samples=self._samples if self._updates.cut else None,
            own_extra=own_extra,
        )

    @abstractmethod
    def _target_draws(self, keys: Tensor, samples: int) -> Draws | None:
        """Draw the random numbers that target policies need, from one random key a member; None if none."""

    @abstractmethod
    def _next_action(self, outputs: Sequence[Tensor], draws: Draws | None, legal: Tensor | None) -> Tensor:
        """Return the target policies' joint action, from the target actors' outputs of each agent."""

    @abstractmethod
    def _next_value(self, values: Tensor) -> Tensor:
        """Combine T target critics' values of next observations, (T, agents, members, samples), into one value each."""

    @abstractmethod
    def _policy_due(self, member: Member) -> bool:
        """Whether this update of the member (already counted) also moves its policy and targets."""

    def update(self, due: Sequence[int], experience: Replay) -> None:
        """Make one update of each member in `due` (positions in the population), all in one batch."""
        if self._normalise is not None and experience.observed is not None:
            self._normalise.move_on(due, experience.observed)
        self.learn(*self.draw(due, experience))

    def draw(self, due: Sequence[int], experience: Replay) -> tuple[tuple[int, ...], Batch, Tensor]:
        """Sample replay for an update of these members.

        Returns their positions, the batch and random keys, for `learn`.
        """
        chosen = tuple(sorted(due))
        ids, counts = zip(*((self._members[m].member_id, self._members[m].updates) for m in chosen), strict=True)
        keys = counter_rng.keys(self._seed, ids, counts, self._device)
        return chosen, experience.sample(keys, self._vectors.of("batch_size", chosen), max(self._samples)), keys

    @torch.no_grad()
    def learn(self, chosen: tuple[int, ...], batch: Batch, keys: Tensor) -> None:
        """Make one update of some members from a batch that was drawn.

        Args:
            chosen: Positions in the population, ascending.
            batch: A sample for each of them, observations as they came.
            keys: One a member, from `counter_rng.keys`, of whatever else is drawn.
        """
        if self._normalise is not None:
            batch = self._normalise(chosen, batch)
        for m in chosen:
            self._members[m].updates += 1
        acting = tuple(m for m in chosen if self._policy_due(self._members[m]))
        critics = self._critics.select(chosen)
        lr = scheduled(self._config, self._members, self._own_lr)
        runs = (
            critics.count_steps(lr["lr_critic"][list(chosen)]),
            self._actors.select(acting).count_steps(lr["lr_actor"][list(acting)]) if acting else (),
        )
        self._losses.count("critic_loss", chosen)
        self._losses.count("actor_loss", acting)
        self.passes += len(critics.rows_members)
        self.member_updates += sum(critics.rows_members)

        def step(keys: Tensor, *tensors: Tensor) -> list[Tensor]:
            self._step(chosen, acting, batch.of(tensors), keys)
            return []

        # All that decides which operations a step makes, besides what never changes in this object.
        key = chosen, acting, runs, batch.part is None, batch.action.shape
        self._updates.run(key, step, [keys, *batch.tensors()])

    def _step(self, chosen: tuple[int, ...], acting: tuple[int, ...], batch: Batch, keys: Tensor) -> None:
        """Do one update's tensor operations: critics of members `chosen`, policies and targets of those `acting`."""
        weight = self._order.weights(batch.weight)
        self._learn_critics(chosen, batch, weight, keys)
        if not acting:
            return
        if batch.part is not None:
            # A policy has no part in what the environment forced.
            weight = self._order.weights(batch.weight * (batch.part == CHOSE))
        if acting != chosen:
            at = self._vectors.index(tuple(chosen.index(m) for m in acting))
            batch, weight, keys = _narrowed(batch, at), weight.index_select(1, at), keys.index_select(0, at)
        self._learn_policies(acting, batch, weight, keys)
        tau = self._vectors.of("tau", acting)
        self._actors.select(acting).soften(tau)
        self._critics.select(acting).soften(tau)

    def _learn_critics(self, chosen: tuple[int, ...], batch: Batch, weight: Tensor, keys: Tensor) -> None:
        critics = self._critics.select(chosen)
        gamma = self._vectors.of("gamma", chosen).unsqueeze(-1)
        draws = self._target_draws(keys, weight.shape[-1])
        gradients, losses = self._gradients_of_critics(
            self, critics, self._actors.select(chosen), batch, weight, draws, gamma
        )
        critics.move(gradients, self._settings.max_grad_norm_critic)
        self._add_losses("critic_loss", chosen, losses)

    def _critic_gradients(
        self, critics: Pass, actors: Pass, batch: Batch, weight: Tensor, draws: Draws | None, gamma: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the gradients of the critics' TD losses, a matrix for each stack of networks, and members' losses."""
        outputs = self._inputs.outputs(actors, "target", batch.next_observation)
        action = self._next_action(outputs, draws, batch.next_legal)
        action = self._joint.bound(action, batch.next_part, batch.next_action)
        next_values = critics.values(
            "target", batch.next_observation, self._joint.critic_extra(action, batch.next_part)
        )
        target = td_target(
            self._order.numbers(batch.reward),
            self._order.numbers(batch.terminated),
            gamma if batch.steps is None else power(gamma, self._order.numbers(batch.steps)),
            self._next_value(self._order.by_twin(next_values)),
        )
        values = critics.values("learn", batch.observation, self._joint.critic_extra(batch.action, batch.part))
        losses, grad_values = critic_loss(self._order.by_twin(values), target, weight)
        return critics.value_gradients(grad_values.reshape(values.shape)), losses

    def _learn_policies(self, chosen: tuple[int, ...], batch: Batch, weight: Tensor, keys: Tensor) -> None:
        actors = self._actors.select(chosen)
        critics = self._critics.select(chosen, self._order.networks)  # the first twin of each agent
        draws = self._heads.policy_draws(keys, weight.shape[-1])
        gradients, losses = self._gradients_of_policies(self, actors, critics, batch, weight, draws)
        actors.move(gradients, self._settings.max_grad_norm_actor)
        self._add_losses("actor_loss", chosen, losses)

    def _policy_gradients(
        self, actors: Pass, critics: Pass, batch: Batch, weight: Tensor, draws: Draws
    ) -> tuple[list[Tensor], Tensor]:
        """Compute the gradients of the policies' losses, one matrix for each stack of networks, and each member's loss.

        The chain rule in three steps, each of them by name:

            dL/dtheta = dL/dQ . dQ/da . da/do . do/dtheta
                        policy_loss
                                critics.own_grads
                                        gradients
                                                actors.agent_gradients
        """
        outputs = torch.cat(self._inputs.outputs(actors, "learn", batch.observation), -1)
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            action = self._heads.differentiable(outputs, draws, batch.legal)
        # An actor climbs its own critic alone: the others' actions are context, current or as they were.
        others = batch.action
        if self._settings.actor_loss == "joint":
            others = self._joint.bound(action.detach(), batch.part, batch.action)
        own = self._joint.own_difference(action.detach(), others)
        values = critics.values("frozen", batch.observation, self._joint.critic_extra(others, batch.part), own)
        losses, grad_values = policy_loss(values, weight)
        grad_action = self._joint.side_by_side(critics.own_grads(grad_values))
        (grad_outputs,) = gradients(action, [outputs], grad_action)
        settings = self._settings
        if isinstance(settings, OffPolicyAlgorithm) and settings.output_penalty:
            # Plus the penalty times the mean square of each agent's outputs: p o^2, with the gradient 2 p o.
            penalty = settings.output_penalty * self._joint.mean_weights(weight)
            losses = losses + (penalty * outputs.detach().square()).sum((1, 2))
            grad_outputs = grad_outputs + 2 * penalty * outputs.detach()
        return actors.agent_gradients(grad_outputs.split_with_sizes(self._joint.widths, -1)), losses

    def snapshot(self) -> PolicySnapshot:
        """Copy the policies as they are now; quick, and the copy can be read on another thread."""
        return PolicySnapshot.of([self._actors], self._members)

    def packed(self) -> Sequence[PackedNetworks]:
        """Return the stacked policies, and the stacked critics."""
        return self._actors, self._critics

    def metrics(self) -> dict[int, dict[str, float]]:
        """Return the mean "critic_loss" and "actor_loss" per network since the last call, by member id; then reset."""
        return {member.member_id: means for member, means in zip(self._members, self._losses.take(), strict=True)}

    def _add_losses(self, name: Loss, chosen: tuple[int, ...], losses: Tensor) -> None:
        everybody = len(chosen) == len(self._members)
        self._losses.add(name, None if everybody else self._vectors.index(chosen), losses)


def _narrowed(batch: Batch, members: Tensor) -> Batch:
    """Restrict a batch to some of its members: those whose policies learn from it too."""

    def of(x: Tensor) -> Tensor:
        return x.index_select(0, members)

    return replace(
        batch,
        observation=tuple(of(x) for x in batch.observation),
        action=of(batch.action),
        legal=None if batch.legal is None else of(batch.legal),
        part=None if batch.part is None else of(batch.part),
    )
