"""The losses of the off-policy algorithms, as pure functions, and their gradients.

Dims: T critics of one agent (1, or 2 twins), N agents, M members, B samples. Weights sum to 1 over the samples of each
network, so that a sum of weighted terms is each network's own weighted mean.
"""

from __future__ import annotations

import torch
from torch import Tensor


def td_target(reward: Tensor, terminated: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """Compute the TD target r + gamma^k (1 - d) Q'(x', a') for N agents, M members and B samples.

    d is termination alone: a truncated episode bootstraps.

    Args:
        reward: (N, M, B), the agent's own from its decision up to its next one.
        terminated: (N, M, B).
        discount: gamma^k for the k env steps in between, (N, M, B), or (M, 1) where k is 1 everywhere.
        next_value: (N, M, B), of the row x' at which the agent's decision closes.
    """
    return reward + (discount - discount * terminated) * next_value


def critic_loss(value: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean squared error of each critic, summed over a member's critics, and its gradient.

    T critics an agent, N agents, M members, B samples; weights sum to 1 over a network's samples.

    Args:
        value: (T, N, M, B).
        target: (N, M, B).
        weight: (N, M, B).

    Returns:
        The losses, and their gradient with respect to `value`.
    """
    error = value - target
    weighted = weight * error
    return _by_member(weighted * error), 2 * weighted  # w e^2, and its gradient 2 w e


def policy_loss(value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean of -Q of each policy, summed over a member's policies, and its gradient.

    N agents, M members, B samples; weights sum to 1 over a network's samples.

    Args:
        value: (N, M, B).
        weight: (N, M, B).

    Returns:
        The losses, and their gradient with respect to `value`.
    """
    grad_value = -weight
    return _by_member((grad_value * value).unsqueeze(0)), grad_value


def soft_policy_loss(value: Tensor, log_prob: Tensor, alpha: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weighted mean of alpha log pi - min Q of each policy, summed over a member's policies.

    T = 2 critics an agent, N agents, M members, B samples; weights sum to 1 over a network's samples.

    Args:
        value: (T, N, M, B).
        log_prob: (N, M, B), of the actions that are valued.
        alpha: (N, M, 1), temperatures.
        weight: (N, M, B).

    Returns:
        The losses, and their gradients with respect to `value`, all in the smaller one, and `log_prob`.
    """
    first_is_smaller = value[0] <= value[1]
    grad_value = -weight * torch.stack([first_is_smaller, ~first_is_smaller])
    grad_log_prob = weight * alpha
    losses = _by_member((grad_value * value).sum(0, keepdim=True) + (grad_log_prob * log_prob).unsqueeze(0))
    return losses, grad_value, grad_log_prob


def _by_member(terms: Tensor) -> Tensor:
    """Sum (T, N, M, B) for each of M members, row by row: a sum over outer axes would round by how many there are."""
    return terms.sum(-1).permute(2, 0, 1).contiguous().flatten(1).sum(-1)
