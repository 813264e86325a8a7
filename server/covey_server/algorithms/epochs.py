"""Shuffled minibatches of many networks at once, each from its own decisions.

Dims: R networks, D decisions of all of them; n minibatches (of the network that has most), B decisions of the largest
one; M members due, O numbers of an action.
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
from covey_server.packing import counter_rng


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch's minibatches: (n, R, B), and (n, R, B, O) where they have numbers for each output.

    Weights are 1 / size of the minibatch; 0 in padding and where a network learns no more, `live` (n, R) says where it
    does. `policy_weight` and `policy_live` are the same for decisions that the agent made itself.
    """

    view: Tensor  # place in `Pooled.x`
    action: Tensor
    mask: Tensor | None
    log_prob: Tensor
    advantage: Tensor  # of mean 0 and deviation 1 in each minibatch
    value: Tensor
    target: Tensor
    weight: Tensor
    policy_weight: Tensor
    live: NDArray[np.bool_]
    policy_live: NDArray[np.bool_]

    def judged(self, j: int) -> list[Tensor]:
        """What policies learn from in minibatch j: action, log_prob, advantage, policy_weight, and mask if any."""
        tensors = [self.action, self.log_prob, self.advantage, self.policy_weight]
        return [x[j] for x in (*tensors, self.mask) if x is not None]

    def valued(self, j: int) -> list[Tensor]:
        """What values learn from in minibatch j: value, target, weight."""
        return [self.value[j], self.target[j], self.weight[j]]

    def of(self, rows: list[int], n: int) -> Epoch:
        """The first n minibatches of some of the networks."""
        if rows == list(range(self.live.shape[1])) and n == len(self.live):
            return self
        at = torch.tensor(rows, dtype=torch.int64, device=self.view.device)

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
            live=self.live[:n, rows],
            policy_live=self.policy_live[:n, rows],
        )


class Dealer:
    """Deals the decisions of R networks out into minibatches, epoch by epoch.

    A network with D decisions has ceil(D / size) minibatches, equal but for one decision: not a last one of a few,
    which would move the network as far as a whole one.

    Args:
        pooled: The decisions.
        estimates: What was said of them before.
        sizes: (R,) largest minibatch of each network.
    """

    def __init__(self, pooled: Pooled, estimates: Estimates, sizes: NDArray[np.int64]) -> None:
        self._pooled = pooled
        counts, device = pooled.counts, pooled.x.device
        self._numbers = torch.stack(
            [estimates.log_prob, estimates.advantage, estimates.value, estimates.target, pooled.chosen], -1
        )
        number = -(-counts // sizes)
        j = np.arange(number.max())[:, None]
        share = np.maximum(number, 1)
        first = np.minimum(j, number) * counts // share
        length = np.minimum(j + 1, number) * counts // share - first
        self._live = length > 0
        place = np.arange(length.max())
        own = place < length[..., None]
        self._shape = own.shape
        # By network, (R, n * B); padding repeats the network's first decision.
        at = np.where(own, first[..., None] + place, 0).transpose(1, 0, 2).reshape(len(counts), -1)
        self._at = torch.from_numpy(at).to(device)
        self._weight = torch.from_numpy((own / np.maximum(length, 1)[..., None]).astype(np.float32)).to(device)
        self._widest = int(counts.max())
        self._starts = torch.from_numpy(np.minimum(np.cumsum(counts) - counts, counts.sum() - 1)).to(device)
        self._beyond = torch.from_numpy(np.arange(self._widest) >= counts[:, None]).to(device)

    def deal(self, keys: Tensor, streams: Sequence[str], going: NDArray[np.bool_]) -> Epoch:
        """One epoch.

        Args:
            keys: (M,) of the members; networks are the streams', each for the members in turn.
            streams: What the networks of each id draw from, R / M of them.
            going: (R,) networks that learn in it.
        """
        pooled = self._pooled
        order = self._order(keys, streams)
        flat = order.flatten()
        log_prob, advantage, value, target, chosen = (
            self._numbers.index_select(0, flat).view(*self._shape, -1).unbind(-1)
        )
        weight = self._weight
        live = self._live & going
        if not going.all():
            weight = weight * torch.from_numpy(going.astype(np.float32)).to(weight.device).unsqueeze(-1)
        policy_weight, policy_live = weight, live
        if pooled.forced:
            policy_weight = weight * chosen
            share = policy_weight.sum(-1, keepdim=True)
            policy_weight = policy_weight / share.where(share > 0, 1)
            policy_live = (share.squeeze(-1) > 0).cpu().numpy()
        return Epoch(
            view=pooled.here.index_select(0, flat).view(self._shape),
            action=pooled.action.index_select(0, flat).view(*self._shape, -1),
            mask=None if pooled.mask is None else pooled.mask.index_select(0, flat).view(*self._shape, -1),
            log_prob=log_prob.contiguous(),
            advantage=normalised(advantage, policy_weight),
            value=value.contiguous(),
            target=target.contiguous(),
            weight=weight,
            policy_weight=policy_weight,
            live=live,
            policy_live=policy_live,
        )

    def _order(self, keys: Tensor, streams: Sequence[str]) -> Tensor:
        """(n, R, B) which decision of all comes where."""
        bits = torch.cat([counter_rng.bits(keys, stream, self._widest) for stream in streams])
        # Draws have 32 bits: what is no decision of the network sorts behind all that are.
        order = bits.masked_fill_(self._beyond, 1 << 32).argsort(stable=True, dim=1)
        n, r, b = self._shape
        index = order.gather(1, self._at) + self._starts.unsqueeze(1)
        return index.view(r, n, b).transpose(0, 1).contiguous()


def normalised(advantage: Tensor, weight: Tensor) -> Tensor:
    """Advantages (n, R, B) with mean 0 and deviation 1 over what has weight in each minibatch (0 for a single one)."""
    count = (weight > 0).sum(-1, keepdim=True)
    centred = advantage - (weight * advantage).sum(-1, keepdim=True)
    variance = (weight * centred.square()).sum(-1, keepdim=True) * count / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + 1e-8)
