"""IPPO (de Witt et al., 2020): PPO (Schulman et al., 2017) for every agent or group of agents by itself.

With the policy pi and the values V at the round's start, for decision t of an agent, r_t = pi'(a_t|o_t) / pi(a_t|o_t):

    A_t  = generalised advantages, R_t = A_t + V(o_t); A_t is normalised in each minibatch
    L_pi = -mean min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t) - ent_coef * mean H(pi'(.|o_t))
    L_V  = vf_coef * mean 0.5 max((V' - R_t)^2, (V + clip(V' - V, -c, c) - R_t)^2)

over `update_epochs` passes through the round in shuffled minibatches. A network whose last minibatch of a pass has
mean (r - 1 - log r) above `target_kl` learns no more from this round. What the environment chose for an agent is left
out of L_pi. Without `clip_values`, c is infinite in L_V.

Dims: R pairs of a policy and a value (network ids, each for the members due in turn); K networks of a pack, A policies
and C values among them; n minibatches of B decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.config import AlgorithmSettings, Config, OnPolicyAlgorithm, OnPolicyHyperparameters
from covey.errors import SpaceError
from covey.networks import NetworkSpec
from covey.spaces import Box, EnvironmentSpaces, has_box, leaves
from covey.v1.order_pb2 import Exploration
from covey_server.algorithms.actor_critic_rows import ActorCriticRows
from covey_server.algorithms.agent_types import AgentType, padding_groups
from covey_server.algorithms.algorithm import Algorithm
from covey_server.algorithms.clipped_losses import policy_loss, value_loss
from covey_server.algorithms.epochs import Epoch, Minibatches
from covey_server.algorithms.estimates import estimates
from covey_server.algorithms.minibatch_sizes import MinibatchSizes
from covey_server.algorithms.pooled import Pool
from covey_server.algorithms.roles import actor_spec, networks_by_id, value_spec
from covey_server.experience.rollouts import Rollout, Rollouts
from covey_server.member import Member, MemberSizes
from covey_server.orders.pace import Rounds
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks
from covey_server.packing.policy_snapshot import PolicySnapshot
from covey_server.packing.updates import backend_of

METRICS = ("policy_loss", "entropy", "approx_kl", "clip_fraction", "value_loss")
"""Those of policies first, then those of values."""


class IPPO(Algorithm):
    """PPO with independent policies and value networks; agents of a group share theirs unless that is switched off.

    Args:
        config: The run's configuration.
        spaces: Spaces of the environment.
        members: The population. `Member.updates` counts learning phases, `Network.scale` moves with each; everything
            else in a member stays as it is until `unpack`.
        device: Where training happens.
        population: As `Algorithm` has it.
    """

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
        return specs | {f"critic/{i}": value_spec(settings, configs[i], spaces, ids[i]) for i in ids}

    @classmethod
    def experience(cls, config: Config, spaces: EnvironmentSpaces, device: torch.device) -> Rollouts:
        """Make an empty memory for the members' rollouts: what each has collected since it last learned."""
        del config, device
        return Rollouts(spaces)

    @classmethod
    def pace(cls, config: Config) -> Rounds:
        """Make the rule for updates: a learning phase after every `learn_step` env steps of a member."""
        del config
        return Rounds()

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
        self._members = list(members)
        self._seed = config.training.seed
        self._device = torch.device(device)
        everybody = [MemberSizes.of(m) for m in members] if population is None else population
        groups = padding_groups(spaces, settings)
        self._groups = [_PaddingGroup(g, config, members, self._device, everybody) for g in groups]
        self.passes = 0
        self.member_updates = 0

    def update(self, due: Sequence[int], experience: Rollouts) -> None:
        """Let each member in `due` (positions in the population) learn from its rollout, taken out of `experience`."""
        chosen = tuple(sorted(due))
        members = [self._members[m] for m in chosen]
        rounds = [experience.take(member.member_id) for member in members]
        ids, counts = [m.member_id for m in members], [m.updates for m in members]
        keys = counter_rng.keys(self._seed, ids, counts, self._device)
        for group in self._groups:
            for learned in group.learn(chosen, rounds, keys):
                self.passes += 1
                self.member_updates += learned
        for member in members:
            member.updates += 1

    def snapshot(self) -> PolicySnapshot:
        """Copy the policies as they are now; quick, and the copy can be read on another thread."""
        return PolicySnapshot.of([group.networks for group in self._groups], self._members)

    def unpack(self) -> None:
        """Copy weights, Adam moments and step counts from the stacked networks back into the members."""
        for group in self._groups:
            group.networks.unpack()

    def metrics(self) -> dict[int, dict[str, float]]:
        """Return losses, entropy, KL divergence and clip fraction, means since the last call, by member id."""
        taken = [group.take_metrics() for group in self._groups]
        sums, counts = (np.sum([t[i] for t in taken], axis=0) for i in range(2))
        return {
            member.member_id: {name: float(sums[i, m] / counts[i, m]) for i, name in enumerate(METRICS) if counts[i, m]}
            for m, member in enumerate(self._members)
        }


class _PaddingGroup:
    """Policies and value networks of similar agents, of all members, padded to one size to learn in one batch.

    Each learns from its own agents' decisions (transitions).

    Args:
        group: The types of agents.
        config: The run's configuration.
        members: Who learns here.
        device: Where training happens.
        population: Sizes of all members.
    """

    def __init__(
        self,
        group: Sequence[AgentType],
        config: Config,
        members: Sequence[Member],
        device: torch.device,
        population: Sequence[MemberSizes],
    ) -> None:
        settings = config.algorithm
        assert isinstance(settings, OnPolicyAlgorithm)
        self._group, self._settings, self._device = group, settings, device
        self._pool = Pool(group, device)
        self._ids = [i for own in group for i in own.ids]
        self._updates = backend_of(config, device)
        self._gradients_of = self._updates.pure(type(self)._gradients)  # unbound: it must not keep itself alive
        keys = [f"{role}/{i}" for role in ("actor", "critic") for i in self._ids]
        self.networks = PackedNetworks(
            members,
            {key: (k,) for k, key in enumerate(keys)},
            device,
            widen=True,
            multiple=self._updates.multiple,
            population=population,
        )
        self._sizes = MinibatchSizes(group, population, self._updates)
        numbers = [m.own(OnPolicyHyperparameters).numbers() for m in members]
        self._hyper = {name: np.array([own[name] for own in numbers]) for name in settings.evolvable}
        self._sums = torch.zeros(len(METRICS), len(members), device=device)
        self._counts = np.zeros((len(METRICS), len(members)), np.int64)

    @torch.no_grad()
    def learn(self, due: tuple[int, ...], rounds: Sequence[Rollout], keys: Tensor) -> list[int]:
        """Let these members learn from their rollouts; returns, for each batched pass, how many of them it updated."""
        by_samples: dict[int, list[int]] = {}
        for i, (m, rollout) in enumerate(zip(due, rounds, strict=True)):
            samples = self._sizes.of(rollout, int(self._hyper["batch_size"][m]))
            by_samples.setdefault(samples, []).append(i)
        passes = []
        for samples, places in by_samples.items():
            own = keys.index_select(0, torch.tensor(places).to(self._device, non_blocking=True))
            passes += self._learn(tuple(due[i] for i in places), [rounds[i] for i in places], own, samples)
        return passes

    def _learn(self, due: tuple[int, ...], rounds: Sequence[Rollout], keys: Tensor, samples: int) -> list[int]:
        """Let members learn in minibatches that are padded to so many decisions; returns what `learn` does."""
        agents = [a for own in self._group for its in own.ids.values() for a in its]
        if not any(len(round.agents[a].here) for round in rounds for a in agents):
            return []
        pooled = self._pool(rounds)
        whose = np.tile(due, len(self._ids))  # position in the population of the member of each of the R pairs
        hyper = {name: values[whose] for name, values in self._hyper.items()}
        before = estimates(
            pooled,
            hyper["gamma"],
            hyper["gae_lambda"],
            self._rows(due, due),
            rescale=self._settings.normalize_values,
            chunk=self._sizes.chunk,
        )
        minibatches = Minibatches(pooled, before, hyper["batch_size"], samples)
        stopped = np.zeros(len(whose), bool)  # pairs whose policy has moved too far: `target_kl`
        passes: list[int] = []
        for e in range(int(hyper["update_epochs"].max())):
            learning = (hyper["update_epochs"] > e) & ~stopped
            members = tuple(m for m in due if learning[whose == m].any())
            if not members:
                break
            epoch = minibatches.epoch(keys, [f"shuffle/{e}/{i}" for i in self._ids], learning)
            for own in self._rows(members, due):
                active = epoch.active[:, [*own.policies, *own.values]]
                if not active.any():
                    continue
                passes += np.sum([active[:, np.equal(own.members, m)].any(1) for m in members], axis=0).tolist()
                divergence = self._improve(own, members, epoch, pooled.x)
                if self._settings.target_kl is not None:
                    stopped[own.policies] |= divergence.cpu().numpy() > self._settings.target_kl
        return passes

    def _improve(self, own: ActorCriticRows, members: tuple[int, ...], epoch: Epoch, x: Tensor) -> Tensor:
        """Learn for one epoch, one pass through the rollout, minibatch by minibatch.

        Returns:
            The divergence of each policy from that before learning, in its last minibatch: one number a policy.
        """
        n = int(epoch.active[:, [*own.policies, *own.values]].any(1).sum())
        policies, values = epoch.of(own.policies, n), epoch.of(own.values, n)
        a = len(own.policies)
        clip = self._of("clip_coef", own).unsqueeze(1)
        if not self._settings.clip_values:
            clip[a:] = torch.inf
        ent_coef, vf_coef = self._of("ent_coef", own)[:a], self._of("vf_coef", own)[a:]
        lr = self._hyper["lr"][list(members)]
        bound = self._max_norm(members)
        active = np.concatenate([policies.policy_active, values.active], 1)
        view = torch.cat([policies.view, values.view], 1)
        log_ratios, losses = [], []
        for j in range(n):
            seen = x.index_select(0, view[j].flatten()).view(*view.shape[1:], -1)
            own.rows.count_steps(active[j])
            moving = None if active[j].all() else active[j]

            def step(*tensors: Tensor, moving: NDArray[np.bool_] | None = moving) -> Sequence[Tensor]:
                gradient, *metrics = self._gradients_of(self, own, *tensors)
                own.rows.move(gradient, lr, bound, moving)
                return metrics

            # All that decides which operations a step makes, besides what never changes in this object.
            step_counts = own.rows.equal_step_counts(moving)
            which = None if moving is None else moving.tobytes()
            key = own.rows, step_counts, which, seen.shape, policies.mask is None
            inputs = [seen, clip, ent_coef, vf_coef, *policies.for_policies(j), *values.for_values(j)]
            log_ratio, *losses_j = (y.clone() for y in self._updates.run(key, step, inputs))
            log_ratios.append(log_ratio)
            losses.append(losses_j)
        l_pi, h, l_v = (torch.stack(x) for x in zip(*losses, strict=True))
        log_ratio, weight = torch.stack(log_ratios), policies.policy_weight[:n]
        ratio = log_ratio.exp()
        # The estimate of KL(pi, pi') that is never negative, mean (r - 1 - log r): Schulman, "Approximating KL
        # divergence", 2020.
        divergence = (weight * (ratio - 1 - log_ratio)).sum(-1)
        clipped = (weight * ((ratio - 1).abs() > clip[:a])).sum(-1)
        self._add_metrics(own.members[:a], 0, [l_pi, h, divergence, clipped], active[:, :a])
        self._add_metrics(own.members[a:], 4, [l_v], active[:, a:])
        last = n - 1 - active[::-1, :a].argmax(0)
        return divergence[
            torch.from_numpy(last).to(self._device, non_blocking=True), torch.arange(a, device=self._device)
        ]

    def _gradients(
        self,
        own: ActorCriticRows,
        seen: Tensor,
        clip: Tensor,
        ent_coef: Tensor,
        vf_coef: Tensor,
        action: Tensor,
        log_prob: Tensor,
        advantage: Tensor,
        policy_weight: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Compute the gradients of PPO's policy and value losses with respect to K stacked networks' parameters.

        Args:
            own: The networks: A policies, then C value networks.
            seen: (K, B, W) what they read, W numbers for each of B decisions.
            clip: (K, 1), PPO's clip coefficient.
            ent_coef: (A,), weight of the entropy.
            vf_coef: (C,), weight of the value loss.
            action: (A, B, O), encoded as wide as the policies' O outputs.
            log_prob: (A, B), of the actions, before learning.
            advantage: (A, B).
            policy_weight: (A, B), weight of each decision in the policy loss.
            others: The mask of actions (A, B, O), where there is one; and value before learning, target and weight of
                what value networks learn from, (C, B) each.

        Returns:
            The gradients (K, P), P numbers a network; log-ratios of new to old probabilities (A, B); policy losses
            without
            the entropy and entropies, (A,) each; value losses (C,).
        """
        *mask, value, target, weight = others
        a = len(own.policies)
        outputs = own.rows.outputs("learn", seen)
        found = own.log_probs(outputs, own.log_std(), action, mask[0] if mask else None)
        log_ratio = found.log_prob - log_prob
        l_pi, grad_log_prob = policy_loss(log_ratio, advantage, clip[:a], policy_weight)
        h = (policy_weight * found.entropy).sum(-1)
        l_v, grad_value = value_loss(outputs[a:, :, 0], value, target, clip[a:], weight)
        # Minus ent_coef * H is part of L_pi; a value is the first output of its network, the rest is padding.
        grad_outputs, grad_log_std = found.backward(grad_log_prob, -ent_coef.unsqueeze(1) * policy_weight)
        grad_outputs[a:, :, 0] = vf_coef.unsqueeze(1) * grad_value
        gradient = own.rows.gradient(grad_outputs)
        if grad_log_std is not None:
            # No forward pass reads log_std: its gradient, 0 by now, is put where it lies among the parameters.
            its = own.rows.log_std(gradient)
            assert its is not None
            its.copy_(grad_log_std)
        return gradient, log_ratio, l_pi, h, l_v

    def _rows(self, members: tuple[int, ...], due: tuple[int, ...]) -> list[ActorCriticRows]:
        """Return the stacked networks of some of the members that learn now, one entry for each stack."""
        return [ActorCriticRows(rows, self._group, due) for rows in self.networks.select(members).rows]

    def _of(self, name: str, own: ActorCriticRows) -> Tensor:
        """Return a hyperparameter for each of K stacked networks: the value of the member that it belongs to, (K,)."""
        return torch.from_numpy(self._hyper[name][own.members].astype(np.float32)).to(self._device, non_blocking=True)

    def _max_norm(self, members: tuple[int, ...]) -> Tensor | None:
        """Return the bounds of gradient norms, one a member; None where norms are not bounded."""
        if "max_grad_norm" not in self._hyper:
            return None
        return torch.from_numpy(self._hyper["max_grad_norm"][list(members)].astype(np.float32)).to(
            self._device, non_blocking=True
        )

    def _add_metrics(self, members: list[int], first: int, values: list[Tensor], active: NDArray[np.bool_]) -> None:
        """Add losses of n minibatches to the members' running sums and counts of metrics.

        Args:
            members: For each network, the position of its member in the population.
            first: Which metric in METRICS the first of `values` is; the others follow it.
            values: (n, networks) for each metric, 0 where a network did not learn.
            active: (n, networks), whether a network learned from the minibatch.
        """
        at, names = np.array(members, np.int64), slice(first, first + len(values))
        # One after the other: `sum` would round by how many networks there are beside.
        sums = torch.stack([x.cumsum(0)[-1] for x in values])
        self._sums[names].index_add_(1, torch.from_numpy(at).to(self._device, non_blocking=True), sums)
        self._counts[names] += np.bincount(at, active.sum(0), len(self._counts[0])).astype(np.int64)

    def take_metrics(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the sums of metrics by member since the last call, and the number of summands; then reset both."""
        sums, counts = self._sums.cpu().numpy().astype(np.float64), self._counts.copy()
        self._sums.zero_()
        self._counts[:] = 0
        return sums, counts
