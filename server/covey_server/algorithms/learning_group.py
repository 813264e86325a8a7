"""Networks that learn from rounds at once: policies and value networks of similar agents, of all members.

Dims: R pairs of a policy and a value (network ids, each for the members due in turn); K networks of a pack, A policies
and C values among them; n minibatches of B decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.config import Config, OnPolicyAlgorithm, OnPolicyHyperparameters
from covey_server.algorithms.actor_critic_rows import ActorCriticRows
from covey_server.algorithms.agent_types import AgentType
from covey_server.algorithms.clipped_losses import policy_loss, value_loss
from covey_server.algorithms.epochs import Epoch, Minibatches
from covey_server.algorithms.estimates import estimates, evaluated, explained_variance
from covey_server.algorithms.joint_view import JointView
from covey_server.algorithms.metric_sums import MetricSums
from covey_server.algorithms.minibatch_sizes import MinibatchSizes
from covey_server.algorithms.pooled import Pool, Pooled
from covey_server.algorithms.recollection import recollected
from covey_server.algorithms.schedules import scheduled
from covey_server.algorithms.sequences import Sequences
from covey_server.algorithms.statistics import RoundStatistics
from covey_server.experience.rollouts import Rollout
from covey_server.member import Member, MemberSizes
from covey_server.packing.networks_by_role import PackedNetworks
from covey_server.packing.updates import backend_of

METRICS = ("policy_loss", "entropy", "approx_kl", "clip_fraction", "value_loss", "explained_variance")
"""Names of what is reported of learning, the losses and the like: those of policies first, then those of values."""


class LearningGroup:
    """Policies and value networks of similar agents, of all members, padded to one size to learn in one batch.

    Each learns from its own agents' decisions (transitions).

    Args:
        group: The types of agents.
        config: The run's configuration.
        members: Who learns here.
        device: Where training happens.
        population: Sizes of all members.
        joint: What value networks see; None: the same as policies.
    """

    def __init__(
        self,
        group: Sequence[AgentType],
        config: Config,
        members: Sequence[Member],
        device: torch.device,
        population: Sequence[MemberSizes],
        joint: JointView | None,
    ) -> None:
        settings = config.algorithm
        assert isinstance(settings, OnPolicyAlgorithm)
        self._group, self._settings, self._device = group, settings, device
        self._pool = Pool(group, device, joint)
        self._statistics = RoundStatistics(group, members, settings, device, joint)
        self._ids = [i for own in group for i in own.ids]
        keys = [f"{role}/{i}" for role in ("actor", "critic") for i in self._ids]
        self._updates = backend_of(config, device, [m.networks[key].spec for m in members for key in keys])
        self._gradients_of = self._updates.pure(type(self)._gradients)  # unbound: it must not keep itself alive
        self.networks = PackedNetworks(
            members,
            {key: (k,) for k, key in enumerate(keys)},
            device,
            widen=True,
            multiple=self._updates.multiple,
            population=population,
        )
        self._sizes = MinibatchSizes(group, population, self._updates, settings.bptt_steps)
        numbers = [m.own(OnPolicyHyperparameters).numbers() for m in members]
        self._config, self._members = config, members
        self._own_hyper = {name: np.array([own[name] for own in numbers]) for name in settings.evolvable}
        self._hyper: Mapping[str, NDArray[np.float64]] = self._own_hyper  # as they are in this update
        self.metrics = MetricSums(len(METRICS), len(members), device)

    @torch.no_grad()
    def learn(
        self,
        due: tuple[int, ...],
        rounds: Sequence[Rollout],
        keys: Tensor,
        factors: Sequence[NDArray[np.float32]] | None = None,
    ) -> list[int]:
        """Let these members learn from their rollouts; returns, for each batched pass, how many of them it updated.

        Args:
            due: Their positions in the population.
            rounds: Their rollouts.
            keys: Random keys, one a member.
            factors: For each rollout (rows,), by what advantages of decisions in a row are multiplied. The ratios of
                the probabilities of what these agents did, after learning over before, are multiplied in. None: 1.
        """
        self._hyper = scheduled(self._config, self._members, self._own_hyper)
        by_samples: dict[int, list[int]] = {}
        for i, (m, rollout) in enumerate(zip(due, rounds, strict=True)):
            samples = self._sizes.of(rollout, int(self._hyper["batch_size"][m]))
            by_samples.setdefault(samples, []).append(i)
        passes = []
        for samples, places in by_samples.items():
            own = keys.index_select(0, torch.tensor(places).to(self._device, non_blocking=True))
            its = None if factors is None else [factors[i] for i in places]
            passes += self._learn(tuple(due[i] for i in places), [rounds[i] for i in places], own, samples, its)
        return passes

    def _learn(
        self,
        due: tuple[int, ...],
        rounds: Sequence[Rollout],
        keys: Tensor,
        samples: int,
        factors: Sequence[NDArray[np.float32]] | None,
    ) -> list[int]:
        """Let members learn in minibatches that are padded to so many decisions; returns what `learn` does."""
        agents = [a for own in self._group for its in own.ids.values() for a in its]
        if not any(len(round.agents[a].here) for round in rounds for a in agents):
            return []
        pooled = self._pool(rounds)
        whose = np.tile(due, len(self._ids))  # position in the population of the member of each of the R pairs
        hyper = {name: values[whose] for name, values in self._hyper.items()}
        played = pooled = self._statistics(pooled, due, rounds, hyper["gamma"])
        networks = self._rows(due, due)
        remembered = recollected(played, networks)
        if remembered is not None:
            pooled = remembered.beside(played)
        before = estimates(
            pooled,
            hyper["gamma"],
            hyper["gae_lambda"],
            networks,
            rescale=self._settings.normalize_values,
            chunk=self._sizes.chunk,
            remembered=remembered,
        )
        explained = explained_variance(before.value, before.target, pooled.counts)
        self.metrics.add(whose.tolist(), 5, [explained.unsqueeze(0)], pooled.counts[None] > 0)
        decided = [] if factors is None else self._decided(rounds, factors)
        factor = torch.from_numpy(np.concatenate([own[at] for own, at in decided])) if decided else None
        sizes = hyper["batch_size"].astype(np.int64)
        minibatches = Minibatches(pooled, before, sizes, samples, factor)
        sequences = None
        if remembered is not None:
            steps, places = self._settings.bptt_steps, self._sizes.sequences
            sequences = Sequences(pooled, minibatches, sizes, steps, places)
        stopped = np.zeros(len(whose), bool)  # pairs whose policy has moved too far: `target_kl`
        passes: list[int] = []
        for e in range(int(hyper["update_epochs"].max())):
            learning = (hyper["update_epochs"] > e) & ~stopped
            members = tuple(m for m in due if learning[whose == m].any())
            if not members:
                break
            streams = [f"shuffle/{e}/{i}" for i in self._ids]
            decisions = minibatches.epoch(keys, streams, learning)
            by_sequences = decisions if sequences is None else sequences.epoch(keys, streams, learning)
            for own in self._rows(members, due):
                epoch = by_sequences if own.recurrent else decisions
                active = epoch.active[:, [*own.policies, *own.values]]
                if not active.any():
                    continue
                passes += np.sum([active[:, np.equal(own.members, m)].any(1) for m in members], axis=0).tolist()
                divergence = self._improve(own, members, epoch, pooled)
                if self._settings.target_kl is not None:
                    stopped[own.policies] |= divergence.cpu().numpy() > self._settings.target_kl
        if decided:
            # Of what agents chose alone: what the environment forced is as likely as before.
            after, _ = evaluated(pooled, [own for own in networks if not own.recurrent], self._sizes.chunk)
            if (again := recollected(played, networks)) is not None:
                after = torch.where(again.known, again.log_prob, after)
            ratio = torch.where(pooled.chosen > 0, (after - before.log_prob).exp(), 1).cpu().numpy()
            ends = np.cumsum([len(at) for _, at in decided])
            for (product, at), its in zip(decided, np.split(ratio, ends[:-1]), strict=True):
                product[at] *= its
        return passes

    def _decided(
        self, rounds: Sequence[Rollout], factors: Sequence[NDArray[np.float32]]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Return for each agent and round, in the order of pooled decisions, the round's factors and their rows."""
        return [
            (its, rollout.agents[a].rows[rollout.agents[a].here])
            for own in self._group
            for agents in own.ids.values()
            for rollout, its in zip(rounds, factors, strict=True)
            for a in agents
        ]

    def _improve(self, own: ActorCriticRows, members: tuple[int, ...], epoch: Epoch, pooled: Pooled) -> Tensor:
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
        own.rows.set_rates(self._hyper["lr"][list(members)])
        bound = self._max_norm(members)
        active = np.concatenate([policies.policy_active, values.active], 1)
        results: list[Tensor] = []  # of all minibatches, made once: small ones in between would break up free memory
        for j in range(n):
            own.rows.count_steps(active[j])
            moving = None if active[j].all() else active[j]

            def step(*tensors: Tensor, moving: NDArray[np.bool_] | None = moving) -> Sequence[Tensor]:
                gradient, *metrics = self._gradients_of(self, own, *tensors)
                own.rows.move(gradient, bound, moving)
                return metrics

            # All that decides which operations a step makes, besides what never changes in this object.
            which = None if moving is None else moving.tobytes()
            seen = pooled.read(policies.view[j], values.view[j])
            key = own.rows, own.rows.runs(moving), which, seen.shape, policies.mask is None
            inputs = [seen, clip, ent_coef, vf_coef, *policies.for_policies(j), *values.for_values(j)]
            found = self._updates.run(key, step, inputs)
            results = results or [y.new_empty(n, *y.shape) for y in found]
            for kept, y in zip(results, found, strict=True):
                kept[j] = y
        (log_ratio, l_pi, h, l_v), weight = results, policies.policy_weight[:n]
        ratio = log_ratio.exp()
        # The estimate of KL(pi, pi') that is never negative, mean (r - 1 - log r): Schulman, "Approximating KL
        # divergence", 2020.
        divergence = (weight * (ratio - 1 - log_ratio)).sum(-1)
        clipped = (weight * ((ratio - 1).abs() > clip[:a])).sum(-1)
        self.metrics.add(own.members[:a], 0, [l_pi, h, divergence, clipped], active[:, :a])
        self.metrics.add(own.members[a:], 4, [l_v], active[:, a:])
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
            others: Where policies with memory begin sequences, (A, S, L); the mask of actions (A, B, O), where there is
                one; and value before learning, target and weight of what value networks learn from, (C, B) each.

        Returns:
            The gradients (K, P), P numbers a network; log-ratios of new to old probabilities (A, B); policy losses
            without
            the entropy and entropies, (A,) each; value losses (C,).
        """
        *optional, value, target, weight = others
        a = len(own.policies)
        outputs = own.rows.outputs("learn", seen, optional.pop(0) if own.recurrent else None)
        found = own.log_probs(outputs, own.log_std(), action, optional[0] if optional else None)
        log_ratio = found.log_prob - log_prob
        l_pi, grad_log_prob = policy_loss(log_ratio, advantage, clip[:a], policy_weight)
        h = (policy_weight * found.entropy).sum(-1)
        l_v, grad_value = value_loss(outputs[a:, :, 0], value, target, clip[a:], weight, self._settings.huber_delta)
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
