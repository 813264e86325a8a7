"""Shuffled PPO minibatches of many networks at once, each from its own decisions (transitions).

Dims: R networks, D decisions of all of them; n minibatches (of the network that has most), B decisions of each
(padded); M members due, O numbers of an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.algorithms.estimates import Estimates
from covey_server.algorithms.pooled import Pooled
from covey_server.algorithms.shuffles import Shuffle


@dataclass(frozen=True, slots=True)
class Epoch:
    """All minibatches of one PPO epoch for R networks: n each, of up to B decisions; tensors are (n, R, B).

    O is the number of outputs of a policy.

    Attributes:
        view: What the agent saw, as a place among the views of `Pooled`.
        action: What it did, encoded; (n, R, B, O).
        mask: What it might have done; (n, R, B, O), or None where no agent has masks.
        log_prob: Of the action, under the policy that chose it.
        advantage: Of mean 0 and deviation 1 in each minibatch, times a factor where there are factors.
        value: V(o_t) before the phase.
        target: The return that values learn to predict.
        weight: 1 / size of the minibatch; 0 in padding and where a network learns no more.
        policy_weight: The same over decisions that the agent made itself: the environment chose none of them.
        active: (n, R) whether a network learns from a minibatch: whether any of it has weight.
        policy_active: (n, R) whether a policy does.
        begins: (n, R, S, L), where decisions are S sequences of L: 1 where the state before a decision is the one that
            it had before learning, 0 where it is what the decision before led to; else None.
    """

    view: Tensor
    action: Tensor
    mask: Tensor | None
    log_prob: Tensor
    advantage: Tensor
    value: Tensor
    target: Tensor
    weight: Tensor
    policy_weight: Tensor
    active: NDArray[np.bool_]
    policy_active: NDArray[np.bool_]
    begins: Tensor | None = None

    def for_policies(self, j: int) -> list[Tensor]:
        """Return what policies learn from in minibatch j: action, log_prob, advantage, policy_weight.

        Behind these `begins` and the mask, where there are any.
        """
        tensors = [self.action, self.log_prob, self.advantage, self.policy_weight]
        return [x[j] for x in (*tensors, self.begins, self.mask) if x is not None]

    def for_values(self, j: int) -> list[Tensor]:
        """Return what value networks learn from in minibatch j: value, target, weight."""
        return [self.value[j], self.target[j], self.weight[j]]

    def of(self, rows: list[int], n: int) -> Epoch:
        """Return the first n minibatches of some of the networks."""
        if rows == list(range(self.active.shape[1])) and n == len(self.active):
            return self
        at = torch.tensor(rows, dtype=torch.int64).to(self.view.device, non_blocking=True)

        def own(x: Tensor) -> Tensor:
            return x[:n].index_select(1, at)

        return Epoch(
            view=own(self.view),
            action=own(self.action),
            mask=None if self.mask is None else own(self.mask),
            log_prob=own(self.log_prob),
            advantage=own(self.advantage),
            value=own(self.value),
            target=own(self.target),
            weight=own(self.weight),
            policy_weight=own(self.policy_weight),
            active=self.active[:n, rows],
            policy_active=self.policy_active[:n, rows],
            begins=None if self.begins is None else own(self.begins),
        )


class Minibatches:
    """Shuffles the decisions (transitions) of R networks into PPO minibatches, epoch by epoch.

    Args:
        pooled: The decisions.
        estimates: Their log-probabilities, advantages, values and returns before the phase.
        sizes: (R,) largest minibatch of each network.
        samples: B, at least the decisions of any minibatch.
        factor: (D,) by what normalised advantages are multiplied; None: 1.
    """

    def __init__(
        self,
        pooled: Pooled,
        estimates: Estimates,
        sizes: NDArray[np.int64],
        samples: int,
        factor: Tensor | None = None,
    ) -> None:
        self._pooled = pooled
        self._factor = None if factor is None else factor.to(pooled.device, non_blocking=True)
        device = pooled.device
        self._numbers = torch.stack(
            [estimates.log_prob, estimates.advantage, estimates.value, estimates.target, pooled.chosen], -1
        )
        self._shuffle = Shuffle(pooled.counts, sizes, samples, device)
        length = np.maximum(self._shuffle.length, 1)[..., None]
        self._weight = torch.from_numpy((self._shuffle.own / length).astype(np.float32)).to(device, non_blocking=True)

    def epoch(self, keys: Tensor, streams: Sequence[str], learning: NDArray[np.bool_]) -> Epoch:
        """Shuffle all decisions into minibatches for one epoch, a pass through the rollout.

        Args:
            keys: Random keys, one for each of M members that learn now; networks are ordered by stream, then member.
            streams: Names of the random streams that the networks of each id draw from, R / M of them.
            learning: For each of R networks, whether it is among those that learn in this epoch.
        """
        return self.gathered(self._shuffle.order(keys, streams), self._weight, self._shuffle.length > 0, learning)

    def gathered(self, order: Tensor, weight: Tensor, active: NDArray[np.bool_], learning: NDArray[np.bool_]) -> Epoch:
        """Gather the decisions of n minibatches of R networks.

        Args:
            order: (n, R, B), which decisions.
            weight: (n, R, B), 1 / size of the minibatch, 0 in padding.
            active: (n, R), whether a network has such a minibatch.
            learning: For each of R networks, whether it is among those that learn in this epoch.
        """
        pooled, shape = self._pooled, order.shape
        flat = order.flatten()
        log_prob, advantage, value, target, chosen = self._numbers.index_select(0, flat).view(*shape, -1).unbind(-1)
        active = active & learning
        if not learning.all():
            weight = weight * torch.from_numpy(learning.astype(np.float32)).to(
                weight.device, non_blocking=True
            ).unsqueeze(-1)
        policy_weight, policy_active = weight, active
        if pooled.forced:
            # Policies learn from what they chose alone: the weights of the rest of a minibatch sum to 1 again.
            policy_weight = weight * chosen
            total = policy_weight.sum(-1, keepdim=True)
            policy_weight = policy_weight / total.where(total > 0, 1)
            policy_active = (total.squeeze(-1) > 0).cpu().numpy()
        advantage = normalised(advantage, policy_weight)
        if self._factor is not None:
            advantage = advantage * self._factor.index_select(0, flat).view(shape)
        return Epoch(
            view=pooled.here.index_select(0, flat).view(shape),
            action=pooled.action.index_select(0, flat).view(*shape, -1),
            mask=None if pooled.mask is None else pooled.mask.index_select(0, flat).view(*shape, -1),
            log_prob=log_prob.contiguous(),
            advantage=advantage,
            value=value.contiguous(),
            target=target.contiguous(),
            weight=weight,
            policy_weight=policy_weight,
            active=active,
            policy_active=policy_active,
        )


def normalised(advantage: Tensor, weight: Tensor) -> Tensor:
    """Return advantages with mean 0 and deviation 1 in each minibatch, (minibatches, networks, decisions).

    Decisions of weight 0 do not count.

    The deviation is that of a sample, with count - 1 under the sum of squares, as `torch.std` has it; weights are
    1 / count, hence the factor.
    """
    count = (weight > 0).sum(-1, keepdim=True)
    centred = advantage - (weight * advantage).sum(-1, keepdim=True)
    variance = (weight * centred.square()).sum(-1, keepdim=True) * count / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + 1e-8)
