"""Squashed Gaussians: policies whose actions are tanh of a Gaussian sample, with log-densities and gradients by hand.

An agent's policy has two outputs for each number of its action, the means m and then the log deviations s. With e drawn
from N(0, 1), sigma = exp(s) and s limited to [-20, 2]:

    z = m + sigma e        a = tanh(z), which lies in (-1, 1), the units in which critics see Boxes

The density of a is that of z divided by da/dz = 1 - tanh(z)^2, which rounds to 0 where |z| is large; its logarithm is
exact in the form with softplus(x) = log(1 + exp(x)) (Haarnoja et al., 2018b, appendix C):

    log pi(a) = sum(-e^2 / 2 - s - log(2 pi) / 2 - log(1 - tanh(z)^2))
    log(1 - tanh(z)^2) = 2 (log 2 - z - softplus(-2 z))

With e held fixed, both a and log pi follow the outputs (the reparameterisation trick):

    d a / d m = 1 - a^2                    d a / d s = (1 - a^2) sigma e
    d log pi / d m = 2 a                   d log pi / d s = 2 a sigma e - 1

Where s is at its limits, it has no gradient.

Example of one number, m = 0.5, s = 0 and e = 1: z = 1.5, a = 0.9051, log pi = -1.4189 + 1.7109 = 0.2919.

Dims: M members, B samples, N agents, A width of all agents' actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from covey.spaces import EnvironmentSpaces
from covey.wire.policy_file import HIGHEST_LOG_STD, LOWEST_LOG_STD
from covey_server.packing import counter_rng

_LOG_2, _HALF_LOG_2_PI = math.log(2), 0.5 * math.log(2 * math.pi)


def log_slope(z: Tensor) -> Tensor:
    """Return log(1 - tanh(z)^2), exact for large z too."""
    # torch's own softplus rounds the last numbers of a tensor otherwise than the others.
    softplus = torch.relu(-2 * z) + torch.log1p(torch.exp(-2 * z.abs()))
    return 2 * (_LOG_2 - z - softplus)


class SquashedSample(NamedTuple):
    """Actions sampled from all agents' squashed Gaussians, M members and B samples.

    Attributes:
        action: (..., M, B, A), A numbers of all agents' actions side by side.
        log_prob: (N, ..., M, B), of each of N agents' own action.
        backward: From upstream gradients with respect to both, (M, B, A) and (N, M, B), the gradient with respect to
            each agent's outputs.
    """

    action: Tensor
    log_prob: Tensor
    backward: Callable[[Tensor, Tensor], list[Tensor]]


class SquashedGaussians:
    """Samples the joint action from the outputs of all agents' squashed Gaussians.

    Args:
        spaces: Spaces of the environment; actions are Boxes, or Dicts and Tuples of Boxes.
        scored: The agents in the order in which log-probabilities are wanted, see `critic_order`.
        device: Where updates are computed.
    """

    def __init__(self, spaces: EnvironmentSpaces, scored: Sequence[int], device: torch.device) -> None:
        self._widths = [a.action.width for a in spaces.agents]
        self._scored = list(scored)
        # (A,) for each number of the joint action, where its agent is in that order.
        places = torch.tensor(self._scored).argsort().repeat_interleave(torch.tensor(self._widths))
        self._place = places.to(device)

    def draws(self, keys: Tensor, samples: int, stream: str) -> Tensor:
        """Draw the standard normal numbers of a joint action, (M, B, A); one random key a member.

        A sample's draws do not depend on how many samples there are.
        """
        width = sum(self._widths)
        return counter_rng.normal(keys, stream, samples * width).view(len(keys), samples, width)

    def sample(self, outputs: Sequence[Tensor], normals: Tensor) -> SquashedSample:
        """Sample the joint action, for M members and B samples.

        Args:
            outputs: (..., M, B, 2 * numbers) of each agent's policy.
            normals: What `draws` gave, (M, B, A).
        """
        halves = [y.split_with_sizes([width, width], -1) for y, width in zip(outputs, self._widths, strict=True)]
        mean, given = (torch.cat(parts, -1) for parts in zip(*halves, strict=True))
        log_std = given.clamp(LOWEST_LOG_STD, HIGHEST_LOG_STD)
        noise = log_std.exp() * normals  # sigma e
        z = mean + noise
        action = torch.tanh(z)
        terms = -0.5 * normals * normals - log_std - _HALF_LOG_2_PI - log_slope(z)
        own = terms.split_with_sizes(self._widths, -1)
        # Along the last axis of memory of its own: so sums round alike, however many members and samples there are.
        log_prob = torch.stack([own[agent].contiguous().sum(-1) for agent in self._scored])

        def backward(grad_action: Tensor, grad_log_prob: Tensor) -> list[Tensor]:
            grad_own = grad_log_prob.permute(1, 2, 0).index_select(-1, self._place)  # (M, B, A)
            grad_mean = grad_action * (1 - action * action) + grad_own * (2 * action)
            inside = (given >= LOWEST_LOG_STD) & (given <= HIGHEST_LOG_STD)
            grad_log_std = (grad_mean * noise - grad_own) * inside
            both = zip(*(g.split_with_sizes(self._widths, -1) for g in (grad_mean, grad_log_std)), strict=True)
            return [torch.cat(its, -1) for its in both]

        return SquashedSample(action, log_prob, backward)
