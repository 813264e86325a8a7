"""What a round's policies and values say of it before they learn from it.

Dims: R pairs of a policy and a value, V views and D decisions of all of them, as in `pooled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.algorithms.advantages import advantages
from covey_server.algorithms.kinds import Share
from covey_server.algorithms.pooled import Pooled
from covey_server.algorithms.return_scale import move_units, updated
from covey_server.member import ReturnScale
from covey_server.packing.pack import Pack

CHUNK = 512
"""Inputs of a network that are evaluated at a time."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Of each decision, (D,); `value` and `target` (the return) in the units of its value network."""

    log_prob: Tensor
    advantage: Tensor
    value: Tensor
    target: Tensor


def estimates(
    pooled: Pooled,
    gamma: NDArray[np.float64],
    gae_lambda: NDArray[np.float64],
    shares: Sequence[Share],
    *,
    rescale: bool,
) -> Estimates:
    """Evaluate the networks as they are; with `rescale`, move the values' units to the returns seen.

    Args:
        pooled: The round.
        gamma: (R,).
        gae_lambda: (R,).
        shares: All networks.
        rescale: Whether values are in units of their own, `Network.scale`.
    """
    counts, device = pooled.counts, pooled.x.device

    def by_decision(numbers: Sequence[float] | NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(np.repeat(np.asarray(numbers, np.float32), counts)).to(device)

    scales = _scales(shares) if rescale else [ReturnScale()] * len(counts)
    mean, std = by_decision([s.mean for s in scales]), by_decision([s.std for s in scales])
    log_prob, view_values = _said(pooled, shares)
    value = view_values.index_select(0, pooled.here) * std + mean
    advantage = advantages(
        reward=pooled.reward,
        steps=pooled.steps,
        terminated=pooled.terminated,
        continues=pooled.continues,
        value=value,
        next_value=view_values.index_select(0, pooled.after) * std + mean,
        gamma=by_decision(gamma),
        gae_lambda=by_decision(gae_lambda),
        longest=pooled.longest,
    )
    target = advantage + value
    if rescale:
        scales = _rescaled(shares, counts, target.cpu().numpy())
        mean, std = by_decision([s.mean for s in scales]), by_decision([s.std for s in scales])
        value, target = (value - mean) / std, (target - mean) / std
    return Estimates(log_prob, advantage, value, target)


def _critics(shares: Sequence[Share]) -> list[tuple[Pack, int]]:
    """Where each pair's value is: (pack, row)."""
    found = {
        pair: (share.part.pack, int(row))
        for share in shares
        for pair, row in zip(share.values, share.part.index.numbers[len(share.policies) :], strict=True)
    }
    return [found[pair] for pair in range(len(found))]


def _scales(shares: Sequence[Share]) -> list[ReturnScale]:
    """The values' units, by pair."""
    return [pack.networks[row].scale for pack, row in _critics(shares)]


def _rescaled(shares: Sequence[Share], counts: NDArray[np.int64], returns: NDArray[np.float32]) -> list[ReturnScale]:
    """Move units to the returns (D,) of each pair; the units then."""
    ends = np.cumsum(counts)
    for (pack, row), count, end in zip(_critics(shares), counts.tolist(), ends.tolist(), strict=True):
        if count:
            network = pack.networks[row]
            before = network.scale
            network.scale = updated(before, returns[end - count : end])
            move_units(pack, row, before, network.scale)
    return _scales(shares)


def _said(pooled: Pooled, shares: Sequence[Share]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of actions, (D,), and values of views, (V,): each network is asked about its own."""
    widest = max(pooled.counts.max(), pooled.view_counts.max())
    decisions, decided = _side_by_side(pooled.counts, widest, pooled.x.device)
    views, viewed = _side_by_side(pooled.view_counts, widest, pooled.x.device)
    log_prob, value = (torch.empty(decisions.shape, device=pooled.x.device) for _ in range(2))
    for share in shares:
        for first in range(0, widest, CHUNK):
            columns = slice(first, first + CHUNK)
            own = decisions[share.policies, columns]
            at = torch.cat([pooled.here[own], views[share.values, columns]])
            outputs = share.part.outputs("frozen", pooled.x[at])
            if share.policies:
                mask = None if pooled.mask is None else pooled.mask[own]
                judged = share.judge(outputs, share.log_std(), pooled.action[own], mask)
                log_prob[share.policies, columns] = judged.log_prob
            value[share.values, columns] = outputs[len(share.policies) :, :, 0]
    return log_prob.flatten().index_select(0, decided), value.flatten().index_select(0, viewed)


def _side_by_side(counts: NDArray[np.int64], widest: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places of a flat array's elements, (R, widest), padded with others; and where in that each element is."""
    starts = np.cumsum(counts) - counts
    places = np.minimum(starts[:, None] + np.arange(widest), counts.sum() - 1)
    back = np.repeat(np.arange(len(counts)) * widest - starts, counts) + np.arange(counts.sum())
    return torch.from_numpy(places).to(device), torch.from_numpy(back).to(device)
