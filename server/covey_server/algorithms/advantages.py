"""Generalised advantage estimation (Schulman et al., 2016), for decisions of all agents and members at once.

Dims: D decisions, one trajectory of one agent after the other, each in the order of time.
"""

from __future__ import annotations

from torch import Tensor

TINY = 1e-30
"""A base of powers above 0, which has a logarithm."""


def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Compute base ** exponent for bases of 0 or more, as e ** (exponent * log(base)).

    torch's own power rounds the last numbers of a tensor otherwise than the others, and these belong to somebody else
    where other members learn in the same pass.
    """
    return (exponent * base.clamp(min=TINY).log()).exp()


def advantages(
    *,
    reward: Tensor,
    steps: Tensor,
    terminated: Tensor,
    continues: Tensor,
    value: Tensor,
    next_value: Tensor,
    gamma: Tensor,
    gae_lambda: Tensor,
    longest: int,
) -> Tensor:
    """Compute A_t = delta_t + gamma^k lambda A_{t+1} with delta_t = r_t + gamma^k V(s_{t+1}) (1 - d_t) - V(s_t).

    D decisions lie one trajectory after the other.

    k is the number of env steps that a decision took: gamma counts steps, lambda counts decisions. A decision that
    nothing continues bootstraps from its own successor, be it a time limit's last observation or where a round ends.

    Args:
        reward: (D,) sum over the decision's k steps.
        steps: (D,) k.
        terminated: (D,) 1 where nothing follows.
        continues: (D,) 1 where the next element is the same agent's next decision.
        value: (D,) V(s_t).
        next_value: (D,) V(s_{t+1}).
        gamma: (D,) or scalar.
        gae_lambda: (D,) or scalar.
        longest: At least the number of decisions in the longest trajectory.

    Returns:
        (D,).
    """
    discount = power(gamma, steps)
    delta = reward + discount * (1 - terminated) * next_value - value
    return discounted_sums(delta, discount * gae_lambda * continues, longest)


def discounted_sums(terms: Tensor, factor: Tensor, longest: int) -> Tensor:
    """Compute y_t = terms_t + factor_t y_{t+1} in log2(longest) steps, each of which doubles the terms summed up.

    `factor` is 0 at every trajectory's end, the last element among them.
    """
    y, reach, span = terms, factor, 1  # y_t covers `span` terms; reach_t is the product of their factors
    while span < longest:
        y = y.clone()
        y[:-span] += reach[:-span] * y[span:]
        reach = reach.clone()
        reach[:-span] = reach[:-span] * reach[span:]
        span *= 2
    return y
