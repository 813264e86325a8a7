"""PPO's losses, as pure functions, and their gradients; weights sum to 1 over the decisions of each minibatch.

Dims: K networks with B decisions each.
"""

from __future__ import annotations

import torch
from torch import Tensor


def policy_loss(log_ratio: Tensor, advantage: Tensor, clip: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return PPO's policy loss, minus the clipped surrogate, for K policies, and its gradient by `log_ratio`.

    Each has B decisions.

    Args:
        log_ratio: (K, B), log r = log pi'(a|o) - log pi(a|o).
        advantage: (K, B).
        clip: (K, 1).
        weight: (K, B), with a sum of 1.
    """
    ratio = log_ratio.exp()
    free, bound = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    # d (r A) / d log r = r A; where the clipped term is the smaller one, r does not move it.
    grad_log_ratio = -weight * torch.where(free <= bound, free, 0)
    return -(weight * torch.minimum(free, bound)).sum(-1), grad_log_ratio


def value_loss(
    value: Tensor, before: Tensor, target: Tensor, clip: Tensor, weight: Tensor, huber_delta: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return PPO's clipped value loss for K value networks and B decisions: half the larger of two squared errors.

    One error is that of the value, the other that of the value kept within `clip` of what it was before. With
    `huber_delta` = d, errors e above d count as d (|e| - d / 2) instead of e^2 / 2 (Huber, 1964).

    Args:
        value: (K, B).
        before: (K, B).
        target: (K, B).
        clip: (K, 1).
        weight: (K, B).
        huber_delta: d; None: all errors count by their squares.

    Returns:
        The loss (K,), and its gradient with respect to `value`.
    """
    error, moved = value - target, value - before
    kept = moved.clamp(-clip, clip)
    squares, bound = error.square(), (before + kept - target).square()
    # Within the clip both are the same error, but for rounding; beyond it the kept one does not move with the value.
    own = (squares >= bound) | (moved == kept)
    larger = torch.maximum(squares, bound)
    if huber_delta is None:
        return 0.5 * (weight * larger).sum(-1), weight * torch.where(own, error, 0)
    linear = huber_delta * (2 * larger.sqrt() - huber_delta)
    loss = 0.5 * (weight * torch.where(larger > huber_delta**2, linear, larger)).sum(-1)
    return loss, weight * torch.where(own, error.clamp(-huber_delta, huber_delta), 0)
