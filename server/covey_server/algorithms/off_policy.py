"""The pass that MADDPG and MATD3 share: one update of every member that owes one, all in the same batched operations.

Dims: M members of the pass, B samples (padded to the largest batch), N agents, T critics of one agent, A width of all
agents' actions. "Judged order" is the agents in the order of the network ids; it differs from the environment's only
where groups that share parameters are interleaved. Where agents act at different times each has a next row of its own,
and what is known of next rows has the N agents in front.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from covey.config import Config, OffPolicyAlgorithm
from covey.networks.resolve import network_ids
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.action_heads import ActionHeads, Draws
from covey_server.algorithms.algorithm import Algorithm
from covey_server.algorithms.compiling import compiled, padding_of
from covey_server.algorithms.kinds import MAX_PADDED_WIDTH
from covey_server.algorithms.losses import critic_loss, policy_loss, td_target
from covey_server.algorithms.roles import CRITIC_ROLES, indicator
from covey_server.experience.batch import Batch
from covey_server.experience.parts import Part
from covey_server.experience.replay import Replay
from covey_server.member import Member
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks, Pass
from covey_server.packing.pack_rows import Mode
from covey_server.packing.policy_snapshot import PolicySnapshot
from covey_server.packing.recording import Recorder
from covey_server.packing.torch_ops import gradients

CHOSE, FORCED = Part.CHOSE.value, Part.FORCED.value
"""As plain numbers: torch.compile compares tensors to nothing else."""


class OffPolicy(Algorithm):
    """Packs the population and updates it from replay.

    Args:
        config: The run's.
        spaces: The environment's.
        members: The population. `Member.updates` counts on with every update; everything else in a member stays as it
            is until `unpack`.
        device: Where training happens.
    """

    def __init__(
        self,
        config: Config,
        spaces: EnvironmentSpaces,
        members: Sequence[Member],
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = torch.device(device)
        assert isinstance(config.algorithm, OffPolicyAlgorithm)
        self._settings = config.algorithm
        self._seed = config.training.seed
        self._members = list(members)
        ids = network_ids(spaces, config.algorithm.share_parameters)
        self._sizes = [int(m.hyperparameters["batch_size"]) for m in members]
        # Compiled once for many batch sizes, packs compute all samples.
        samples = None if config.learner.compile else self._sizes
        widths = [n for a in spaces.agents for n in (a.observation.width, a.action.width)]
        self._actors = PackedNetworks(
            members,
            {f"actor/{i}": a for i, a in ids.items()},
            self._device,
            widen=max(widths) <= MAX_PADDED_WIDTH,
            multiple=padding_of(config),
            samples=samples,
        )
        roles = CRITIC_ROLES[self.name]
        critics = {f"{role}/{i}": a for role in roles for i, a in ids.items()}
        self._critics = PackedNetworks(members, critics, self._device, multiple=padding_of(config), samples=samples)
        self._twins = len(roles)
        self._networks = len(ids)
        self._heads = ActionHeads(spaces, self._device)
        self._views = _own_views(spaces)
        self._asynchronous = spaces.asynchronous
        self._indices = self._group_indices(ids)
        judged = [a for agents in ids.values() for a in agents]
        self._order = None if judged == sorted(judged) else torch.tensor(judged, device=self._device)
        # (N, N), 1 where two agents (judged order) share a network; None where none do.
        owner = torch.tensor([k for k, agents in enumerate(ids.values()) for _ in agents], device=self._device)
        self._sharing = None if len(ids) == len(judged) else (owner.unsqueeze(0) == owner.unsqueeze(1)).float()
        actions = torch.tensor([a.action.width for a in spaces.agents])
        # (A,), whose a column of the joint action is; (N, 1, 1, A), true where it is the agent's own.
        self._owner = torch.arange(len(actions)).repeat_interleave(actions).to(self._device)
        self._own_action = self._owner == torch.arange(len(actions), device=self._device).view(-1, 1, 1, 1)
        self._widths = actions.tolist()
        # As factors in judged order; and for each column of outputs, whose weight it has, and what part of it.
        self._own_judged = self._own_action[judged].float()
        self._weight_of = torch.tensor(judged).argsort().to(self._device).index_select(0, self._owner)
        self._part_of = (1 / actions.float()).to(self._device).index_select(0, self._owner)
        self._hyper = {
            name: self._tensor([m.hyperparameters[name] for m in members], torch.float32) for name in ("gamma", "tau")
        }
        self._rates = {n: np.array([m.hyperparameters[n] for m in members], float) for n in ("lr_actor", "lr_critic")}
        self._hyper["batch_size"] = self._tensor(self._sizes)
        self._batch_multiple = padding_of(config)
        self._compiled = config.learner.compile
        self._recorder = Recorder()
        # Not bound to this object, which would keep itself alive until garbage is collected, with all its tensors.
        self._critic_step = compiled(type(self)._critic_gradients, config)
        self._policy_step = compiled(type(self)._policy_gradients, config)
        self.passes = 0
        self.member_updates = 0
        self._losses = torch.zeros(2, len(members), device=self._device)
        self._loss_counts = [[0] * len(members), [0] * len(members)]

    @abstractmethod
    def _target_draws(self, keys: Tensor, samples: int) -> Draws | None:
        """What the target policies draw."""

    @abstractmethod
    def _next_action(self, outputs: Sequence[Tensor], draws: Draws | None, legal: Tensor | None) -> Tensor:
        """The target policies' joint action (..., M, B, A), from the target actors' outputs by agent."""

    @abstractmethod
    def _next_value(self, values: Tensor) -> Tensor:
        """The target critics' verdict (N, M, B), from that of each twin (T, N, M, B)."""

    @abstractmethod
    def _policy_due(self, member: Member) -> bool:
        """Whether this update of the member (already counted) is one of its policy and targets too."""

    def update(self, due: Sequence[int], experience: Replay) -> None:
        """One update of each member in `due` (positions in the population), in one pass."""
        self.learn(*self.draw(due, experience))

    def draw(self, due: Sequence[int], experience: Replay) -> tuple[tuple[int, ...], Batch, Tensor]:
        """What an update of these members learns from; as `learn` takes it."""
        chosen = tuple(sorted(due))
        ids, counts = zip(*((self._members[m].member_id, self._members[m].updates) for m in chosen), strict=True)
        keys = counter_rng.keys(self._seed, ids, counts, self._device)
        largest = max(self._sizes[m] for m in chosen)
        padded = -(-largest // self._batch_multiple) * self._batch_multiple
        return chosen, experience.sample(keys, self._of("batch_size", chosen), padded), keys

    @torch.no_grad()
    def learn(self, chosen: tuple[int, ...], batch: Batch, keys: Tensor) -> None:
        """One update from a batch that was drawn.

        Args:
            chosen: Positions in the population, rising.
            batch: A sample for each of them.
            keys: (M,) from `counter_rng.keys`, of whatever else is drawn.
        """
        for m in chosen:
            self._members[m].updates += 1
        acting = tuple(m for m in chosen if self._policy_due(self._members[m]))
        critics = self._critics.select(chosen)
        alike = critics.count_steps(), self._actors.select(acting).count_steps() if acting else ()
        for counts, learning in zip(self._loss_counts, (chosen, acting), strict=True):
            for m in learning:
                counts[m] += 1
        self.passes += len(critics.rows_members)
        self.member_updates += sum(critics.rows_members)

        def change(keys: Tensor, *tensors: Tensor) -> list[Tensor]:
            self._change(chosen, acting, batch.of(tensors), keys)
            return []

        inputs = [keys, *batch.tensors()]
        if self._compiled:
            change(*inputs)
        else:
            self._recorder((chosen, acting, alike, batch.part is None, batch.action.shape), change, inputs)

    def _change(self, chosen: tuple[int, ...], acting: tuple[int, ...], batch: Batch, keys: Tensor) -> None:
        """What `learn` does to tensors; `acting` are those of the chosen whose policies learn too."""
        weight = self._per_network(batch.weight)
        self._learn_critics(chosen, batch, weight, keys)
        if not acting:
            return
        if batch.part is not None:
            # A policy has no part in what the environment forced.
            weight = self._per_network(batch.weight * (batch.part == CHOSE))
        if acting != chosen:
            at = self._tensor([chosen.index(m) for m in acting])
            batch, weight, keys = _narrowed(batch, at), weight.index_select(1, at), keys.index_select(0, at)
        self._learn_policies(acting, batch, weight, keys)
        tau = self._of("tau", acting)
        self._actors.select(acting).soften(tau)
        self._critics.select(acting).soften(tau)

    def _learn_critics(self, chosen: tuple[int, ...], batch: Batch, weight: Tensor, keys: Tensor) -> None:
        critics = self._critics.select(chosen)
        gamma = self._of("gamma", chosen).unsqueeze(-1)
        draws = self._target_draws(keys, weight.shape[-1])
        gradients, losses = self._critic_step(self, critics, self._actors.select(chosen), batch, weight, draws, gamma)
        critics.move(gradients, self._rates["lr_critic"][list(chosen)], self._settings.max_grad_norm_critic)
        self._record(0, chosen, losses)

    def _critic_gradients(
        self, critics: Pass, actors: Pass, batch: Batch, weight: Tensor, draws: Draws | None, gamma: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Of each pack, (K, P), and the losses of the members, (M,)."""
        outputs = self._outputs(actors, "target", batch.next_observation)
        action = self._next_action(outputs, draws, batch.next_legal)
        action = self._bound(action, batch.next_part, batch.next_action)
        values = critics.values("target", batch.next_observation, self._extra(action, batch.next_part))
        target = td_target(
            self._judged(batch.reward),
            self._judged(batch.terminated),
            gamma if batch.steps is None else gamma ** self._judged(batch.steps),
            self._next_value(self._by_twin(values)),
        )
        values = critics.values("learn", batch.observation, self._extra(batch.action, batch.part))
        losses, pull = critic_loss(self._by_twin(values), target, weight)
        return critics.value_gradients(pull.reshape(values.shape)), losses

    def _learn_policies(self, chosen: tuple[int, ...], batch: Batch, weight: Tensor, keys: Tensor) -> None:
        actors = self._actors.select(chosen)
        critics = self._critics.select(chosen, self._networks)
        draws = self._heads.policy_draws(keys, weight.shape[-1])
        gradients, losses = self._policy_step(self, actors, critics, batch, weight, draws)
        actors.move(gradients, self._rates["lr_actor"][list(chosen)], self._settings.max_grad_norm_actor)
        self._record(1, chosen, losses)

    def _policy_gradients(
        self, actors: Pass, critics: Pass, batch: Batch, weight: Tensor, draws: Tensor | None
    ) -> tuple[list[Tensor], Tensor]:
        """Of each pack, (K, P), and the losses of the members, (M,)."""
        outputs = torch.cat(self._outputs(actors, "learn", batch.observation), -1)
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            action = self._heads.differentiable(outputs, draws, batch.legal)
        # An actor climbs its own critic alone: the others' actions are context, current or as they were.
        seen, joint = action.detach(), self._settings.actor_loss == "joint"
        if not joint or batch.part is not None:
            others = self._bound(seen, batch.part, batch.action) if joint else batch.action
            seen = torch.where(self._own_action, seen, others)
        values = critics.values("frozen", batch.observation, self._extra(seen, batch.part))
        losses, pull = policy_loss(values, weight)
        slopes = critics.input_grads(pull)[..., : action.shape[-1]]
        (pull,) = gradients(action, [outputs], (slopes * self._own_judged).sum(0))
        if self._settings.output_penalty:
            # The mean square of each agent's outputs, under the agent's weight.
            weights = weight.permute(1, 2, 0).index_select(-1, self._weight_of) * self._part_of
            weights = self._settings.output_penalty * weights
            losses = losses + (weights * outputs.detach().square()).sum((1, 2))
            pull = pull + 2 * weights * outputs.detach()
        return actors.agent_gradients(pull.split_with_sizes(self._widths, -1)), losses

    def snapshot(self) -> PolicySnapshot:
        """The policies as they are now; cheap, and safe to unpack on another thread."""
        return PolicySnapshot.of([self._actors], self._members)

    def unpack(self) -> None:
        """Write weights, targets, moments and step counts back into the members."""
        self._actors.unpack()
        self._critics.unpack()

    def metrics(self) -> dict[int, dict[str, float]]:
        """Mean losses since the last call, per member id: "critic_loss" and "actor_loss" (per network); then reset."""
        sums = self._losses.tolist()
        networks = (self._twins * self._networks, self._networks)
        result: dict[int, dict[str, float]] = {}
        for m, member in enumerate(self._members):
            result[member.member_id] = {
                name: sums[kind][m] / (self._loss_counts[kind][m] * networks[kind])
                for kind, name in enumerate(("critic_loss", "actor_loss"))
                if self._loss_counts[kind][m]
            }
        self._losses.zero_()
        self._loss_counts = [[0] * len(self._members), [0] * len(self._members)]
        return result

    def _record(self, kind: int, chosen: tuple[int, ...], losses: Tensor) -> None:
        if len(chosen) == len(self._members):
            self._losses[kind].add_(losses)
        else:
            self._losses[kind].index_add_(0, self._tensor(chosen), losses)

    def _tensor(self, values: Sequence[float], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(self._device, non_blocking=True)

    def _of(self, name: str, chosen: tuple[int, ...]) -> Tensor:
        """A hyperparameter of the members chosen, (M,)."""
        values = self._hyper[name]
        return values if len(chosen) == len(self._members) else values.index_select(0, self._tensor(chosen))

    def _outputs(self, actors: Pass, mode: Mode, observation: Sequence[Tensor]) -> list[Tensor]:
        """Each agent's actor on its own observation: (..., M, B, outputs), from the groups' (..., M, B, width)."""
        own = [observation[g][..., columns] for g, columns in self._views]
        if self._indices is not None:
            own = [torch.cat([x, i.expand(*x.shape[:-1], -1)], -1) for x, i in zip(own, self._indices, strict=True)]
        if own[0].dim() == 3:
            return actors.outputs_by_agent(mode, [own])
        views, m, batch = own[0].shape[:3]
        folded = actors.outputs_by_agent(mode, [[x.transpose(0, 1).reshape(m, views * batch, -1) for x in own]])
        return [y.view(m, views, batch, -1).transpose(0, 1) for y in folded]

    def _bound(self, action: Tensor, part: Tensor | None, done: Tensor | None) -> Tensor:
        """The policies' joint action, where an agent does not choose replaced by what it is bound to."""
        if part is None or done is None:
            return action
        return torch.where((part == CHOSE).index_select(-1, self._owner), action, done)

    def _extra(self, action: Tensor, part: Tensor | None) -> Tensor:
        """What critics read besides observations: all actions; where agents act at different times, who acts."""
        if not self._asynchronous:
            return action
        shape = (*action.shape[:-1], len(self._views))
        if part is None:
            acts = torch.ones(shape, device=self._device)
        else:
            acts = ((part == CHOSE) | (part == FORCED)).float().expand(shape)
        return torch.cat([action, acts], -1)

    def _group_indices(self, ids: dict[str, tuple[int, ...]]) -> list[Tensor] | None:
        """What each agent's policy reads besides its observation: its index in the group as one-hot, or nothing."""
        rows: dict[int, Tensor] = {}
        for agents in ids.values():
            width = indicator(self._settings, agents)
            rows.update(zip(agents, torch.eye(len(agents), device=self._device)[:, :width], strict=True))
        return [rows[agent] for agent in sorted(rows)] if any(row.numel() for row in rows.values()) else None

    def _by_twin(self, values: Tensor) -> Tensor:
        """(T * N, M, B) as (T, N, M, B)."""
        return values.view(self._twins, -1, *values.shape[1:])

    def _judged(self, numbers: Tensor) -> Tensor:
        """(M, B, N) in environment order as (N, M, B) in judged order."""
        by_agent = numbers.permute(2, 0, 1)
        return by_agent if self._order is None else by_agent.index_select(0, self._order)

    def _per_network(self, weight: Tensor) -> Tensor:
        """Weights (N, M, B), in judged order, that sum to 1 over the samples of each network."""
        weight = self._judged(weight).contiguous()
        total = weight.sum(-1)
        if self._sharing is not None:
            total = self._sharing @ total
        return weight / total.clamp_(min=1).unsqueeze(-1)


def _own_views(spaces: EnvironmentSpaces) -> list[tuple[int, slice]]:
    """Per agent: its group's position, and its columns in the group's joint observation."""
    views = {}
    for g, group in enumerate(spaces.groups):
        width = group.observation.width
        for k, agent in enumerate(group.agents):
            views[agent] = (g, slice(k * width, (k + 1) * width))
    return [views[agent] for agent in range(len(spaces.agents))]


def _narrowed(batch: Batch, members: Tensor) -> Batch:
    """What policies learn from, for some of the members."""

    def of(x: Tensor) -> Tensor:
        return x.index_select(0, members)

    return replace(
        batch,
        observation=tuple(of(x) for x in batch.observation),
        action=of(batch.action),
        legal=None if batch.legal is None else of(batch.legal),
        part=None if batch.part is None else of(batch.part),
    )
