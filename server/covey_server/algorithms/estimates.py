"""Log-probabilities, values, advantages and returns of a rollout's decisions, computed once before PPO learns from it.

Dims: R pairs of a policy and a value, V views and D decisions of all of them, as in `pooled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.algorithms.actor_critic_rows import ActorCriticRows
from covey_server.algorithms.advantages import advantages
from covey_server.algorithms.pooled import Pooled
from covey_server.algorithms.recollection import Recollection
from covey_server.algorithms.return_scale import move_units, updated
from covey_server.member import ReturnScale
from covey_server.packing.pack import Pack

CHUNK = 512
"""Most inputs of a network that are evaluated at a time, if they take no more than CHUNK_BYTES."""

CHUNK_BYTES = 8 << 20
"""Bytes of a network's inputs that are evaluated at a time."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Log-probability, advantage, value and return of each of D decisions in a rollout; all are (D,).

    `value` and `target` are in the units in which the value network predicts.

    Attributes:
        log_prob: Of the action, under the policy that chose it.
        advantage: A_t, generalised advantage estimation.
        value: V(o_t).
        target: The return A_t + V(o_t) that values learn to predict.
    """

    log_prob: Tensor
    advantage: Tensor
    value: Tensor
    target: Tensor


def estimates(
    pooled: Pooled,
    gamma: NDArray[np.float64],
    gae_lambda: NDArray[np.float64],
    networks: Sequence[ActorCriticRows],
    *,
    rescale: bool,
    chunk: int = CHUNK,
    remembered: Recollection | None = None,
) -> Estimates:
    """Compute log-probabilities, values, advantages and returns of a rollout's decisions by the networks as they are.

    With `rescale`, the units in which value networks predict move to the returns seen. R is the number of pairs of a
    policy and a value network.

    Args:
        pooled: The round.
        gamma: (R,) discounts.
        gae_lambda: (R,) lambdas.
        networks: All policies and values, pack by pack.
        rescale: Whether values are in units of their own, `Network.scale`.
        chunk: Inputs of a network that are evaluated at a time.
        remembered: What is known of policies with memory.
    """
    counts, device = pooled.counts, pooled.device

    def by_decision(numbers: Sequence[float] | NDArray[np.float64]) -> Tensor:
        """Repeat one number of each pair of policy and value network for all decisions that the pair learns from."""
        return torch.from_numpy(np.repeat(np.asarray(numbers, np.float32), counts)).to(device, non_blocking=True)

    # A value network gives v in units of its own: V = mean + std v. Advantages are in units of rewards.
    scales = _scales(networks) if rescale else [ReturnScale()] * len(counts)
    mean, std = by_decision([s.mean for s in scales]), by_decision([s.std for s in scales])
    log_prob, view_values = evaluated(pooled, [own for own in networks if not own.recurrent], chunk)
    if remembered is not None:
        log_prob = torch.where(remembered.known, remembered.log_prob, log_prob)
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
        # The units move to these returns, and the last layers against them: V is what it was, v another number.
        scales = _rescaled(networks, counts, target.cpu().numpy())
        mean, std = by_decision([s.mean for s in scales]), by_decision([s.std for s in scales])
        value, target = (value - mean) / std, (target - mean) / std
    return Estimates(log_prob, advantage, value, target)


def explained_variance(value: Tensor, target: Tensor, counts: NDArray[np.int64]) -> Tensor:
    """Return what share of the variance of returns value networks explain, 1 - Var[target - value] / Var[target].

    It is 1 for a perfect prediction, 0 for the mean return, and below that for worse; 0 where all returns are equal.

    Args:
        value: (decisions,), pair by pair.
        target: (decisions,), the returns.
        counts: (R,), how many of the decisions are each pair's.

    Returns:
        (R,), one number a pair.
    """
    pairs = len(counts)
    own = torch.from_numpy(np.repeat(np.arange(pairs), counts)).to(value.device, non_blocking=True)
    n = torch.from_numpy(np.maximum(counts, 1).astype(np.float32)).to(value.device, non_blocking=True)
    both = torch.stack([target - value, target])

    def means(numbers: Tensor) -> Tensor:
        return numbers.new_zeros(2, pairs).index_add_(1, own, numbers) / n

    left, whole = means((both - means(both).index_select(1, own)).square())
    return torch.where(whole > 0, 1 - left / whole, 0.0)


def _values(networks: Sequence[ActorCriticRows]) -> list[tuple[Pack, int]]:
    """Return where each pair's value network lies: the pack (stack of networks), and its row in that."""
    found = {
        pair: (own.rows.pack, int(row))
        for own in networks
        for pair, row in zip(own.values, own.rows.index.numbers[len(own.policies) :], strict=True)
    }
    return [found[pair] for pair in range(len(found))]


def _scales(networks: Sequence[ActorCriticRows]) -> list[ReturnScale]:
    """Return each value network's mean and deviation of returns, the units in which it predicts them."""
    return [pack.networks[row].scale for pack, row in _values(networks)]


def _rescaled(
    networks: Sequence[ActorCriticRows], counts: NDArray[np.int64], returns: NDArray[np.float32]
) -> list[ReturnScale]:
    """Move the units in which each value network predicts to the returns that it is to learn; returns the new units."""
    ends = np.cumsum(counts)
    for (pack, row), count, end in zip(_values(networks), counts.tolist(), ends.tolist(), strict=True):
        if count:
            network = pack.networks[row]
            before = network.scale
            network.scale = updated(before, returns[end - count : end])
            move_units(pack, row, before, network.scale)
    return _scales(networks)


def evaluated(pooled: Pooled, networks: Sequence[ActorCriticRows], chunk: int) -> tuple[Tensor, Tensor]:
    """Compute log-probabilities of all decisions' actions and values of all observations, each by its own network.

    Pairs have different numbers of decisions and views; networks of a pack read them side by side, `chunk` columns at a
    time, fewer where inputs are large, and what they give in padding is left out at the end. The last columns are
    filled up to a whole chunk, as products round by how many there are.
    """
    chunk = min(chunk, max(1, CHUNK_BYTES // (4 * networks[0].rows.pack.spec.inputs[0].width)))
    widest = -(-max(pooled.counts.max(), pooled.view_counts.max()) // chunk) * chunk
    decisions, decided = side_by_side(pooled.counts, widest, pooled.device)
    views, viewed = side_by_side(pooled.view_counts, widest, pooled.device)
    log_prob, value = (torch.empty(decisions.shape, device=pooled.device) for _ in range(2))
    for own in networks:
        # A list would be copied at every use, and the learner would wait for each copy.
        policies, values = (
            torch.tensor(pairs).long().to(decisions.device, non_blocking=True) for pairs in (own.policies, own.values)
        )
        for first in range(0, widest, chunk):
            columns = slice(first, first + chunk)
            at = decisions[policies, columns]
            outputs = own.rows.outputs("frozen", pooled.read(pooled.here[at], views[values, columns]))
            if own.policies:
                mask = None if pooled.mask is None else pooled.mask[at]
                found = own.log_probs(outputs, own.log_std(), pooled.action[at], mask)
                log_prob[policies, columns] = found.log_prob
            value[values, columns] = outputs[len(own.policies) :, :, 0]
    return log_prob.flatten().index_select(0, decided), value.flatten().index_select(0, viewed)


def side_by_side(counts: NDArray[np.int64], widest: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Arrange a flat array of R runs as R rows of equal length, and back; returns indices for both.

    Example: counts (2, 1) and widest 2 give the places ((0, 1), (2, 2)), where the last is padding, and (0, 1, 2).

    Args:
        counts: (R,) elements of each run.
        widest: Length of a row.
        device: Where the indices go.

    Returns:
        Places in the flat array, (R, widest), padding at any of them; and, for each element of the flat array, its
        place among the R * widest.
    """
    starts = np.cumsum(counts) - counts
    places = np.minimum(starts[:, None] + np.arange(widest), counts.sum() - 1)
    back = np.repeat(np.arange(len(counts)) * widest - starts, counts) + np.arange(counts.sum())
    return (
        torch.from_numpy(places).to(device, non_blocking=True),
        torch.from_numpy(back).to(device, non_blocking=True),
    )
