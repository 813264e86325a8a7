"""The losses of the off-policy algorithms, as pure functions.

Dims: T critics of one agent (1, or 2 twins), N agents, M members, B samples. Weights sum to 1 over the samples of each
network, so that a sum of weighted terms is each network's own weighted mean.
"""

from __future__ import annotations

from torch import Tensor


def td_target(reward: Tensor, terminated: Tensor, gamma: Tensor, next_value: Tensor) -> Tensor:
    """Y = r + gamma (1 - d) Q'(x', a'), (N, M, B); d is termination alone: a truncated decision bootstraps.

    Args:
        reward: (N, M, B).
        terminated: (N, M, B).
        gamma: (M,).
        next_value: (N, M, B).
    """
    return reward + gamma.unsqueeze(-1) * (1 - terminated) * next_value


def critic_loss(value: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of (Q - y)^2 of each network, summed over a member's networks: (M,).

    Args:
        value: (T, N, M, B).
        target: (N, M, B).
        weight: (N, M, B).
    """
    return (weight * (value - target).square()).sum((0, 1, 3))


def policy_loss(value: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of -Q of each policy, summed over a member's policies: (M,); value and weight (N, M, B)."""
    return -(weight * value).sum((0, 2))
