"""Stochastic policies: log-probabilities of actions and entropies, with their gradients, for stacked networks.

Gradients are written out, by hand, beside what they are gradients of: what autograd would do besides would be in every
recording. Actions are held as numbers of the outputs' width, so that one gather serves every kind of action.

Dims: K networks, B decisions each, O outputs of a network, D decisions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.spaces import (
    Box,
    DictSpace,
    Discrete,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Space,
    TupleSpace,
    action_bounds,
    leaf_arrays,
    leaves,
)

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def flat(action: NDArray[Any]) -> NDArray[Any]:
    """Return actions (D, *shape) as rows of numbers, (D, numbers); D may be 0."""
    return action.reshape(len(action), math.prod(action.shape[1:]))


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Log-probabilities of given actions under policies, and the policies' entropies.

    K networks, B decisions each, O outputs.

    Attributes:
        log_prob: (K, B), of the actions.
        entropy: (K, B).
        backward: From upstream gradients with respect to both, (K, B) each, the gradient with respect to the outputs,
            (K, B, O), and to `log_std`, (K, O), where there is one.
    """

    log_prob: Tensor
    entropy: Tensor
    backward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class Distribution(ABC):
    """Makes a policy network's outputs a probability distribution over the actions of one space."""

    @abstractmethod
    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Encode D stored actions of any shape as float numbers (D, O), as wide as the policy's O outputs."""

    @abstractmethod
    def log_probs(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> LogProbs:
        """Compute log-probabilities of actions and entropies, for K networks with B decisions and O outputs each.

        Args:
            outputs: (K, B, O) of policies, as `covey.wire.policy_file.PolicySpec` says.
            log_std: (K, O) where actions are Gaussian.
            action: (K, B, O), encoded.
            mask: (K, B, O), 1 for legal actions, or None where all are. Each choice has a legal one.
        """

    def legal(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """Return action masks (decisions, outputs) in which every choice has a legal value: where none is, all are."""
        return mask.astype(np.float32)


class Gaussian(Distribution):
    """Distribution over Box actions: means in units of the action range mapped to [-1, 1], constant deviations."""

    def __init__(self, space: Box) -> None:
        self._low, self._high = action_bounds(space)

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Map Box actions from their bounds to [-1, 1], the units in which policies predict their means."""
        numbers = flat(action).astype(np.float64)
        span = self._high - self._low
        # Where the bounds are equal there is one action: any number stands for it.
        return np.where(span > 0, 2 * (numbers - self._low) / np.where(span > 0, span, 1) - 1, 0).astype(np.float32)

    def log_probs(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> LogProbs:
        """Compute log-densities of actions and entropies, in units of the action range mapped to [-1, 1].

        With z = (a - mu) / sigma, summed over the numbers of an action:

            log p = sum(-z^2 / 2 - log sigma - log(2 pi) / 2)        H = sum(log sigma + log(2 pi) / 2 + 1 / 2)
            d log p / d mu = z / sigma       d log p / d log sigma = z^2 - 1       d H / d log sigma = 1
        """
        assert log_std is not None
        inverse = torch.exp(-log_std).unsqueeze(1)  # 1 / sigma
        z = (action - outputs) * inverse
        squares = z * z
        constant = (log_std + _HALF_LOG_2_PI).sum(-1, keepdim=True)
        log_prob = -0.5 * squares.sum(-1) - constant

        def backward(grad_log_prob: Tensor, grad_entropy: Tensor) -> tuple[Tensor, Tensor]:
            grad_outputs = grad_log_prob.unsqueeze(-1) * z * inverse
            # Summed over decisions, as log_std is one parameter: the product sums grad_log_prob * z^2.
            grad_constant = (grad_entropy - grad_log_prob).sum(-1, keepdim=True)
            return grad_outputs, (grad_log_prob.unsqueeze(-1) * squares).sum(1) + grad_constant

        return LogProbs(log_prob, (constant + 0.5 * log_std.shape[-1]).expand_as(log_prob), backward)


class Categorical(Distribution):
    """Distribution over Discrete and MultiDiscrete actions: independent choices, their logits one after another."""

    def __init__(self, nvec: Sequence[int], start: Sequence[int]) -> None:
        self._nvec = list(nvec)
        self._values = np.concatenate([np.arange(first, first + n) for n, first in zip(nvec, start, strict=True)])
        self._place = np.repeat(np.arange(len(nvec)), nvec)

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Encode actions as one-hot vectors: one for each choice of an action, joined."""
        one_hot: NDArray[np.bool_] = flat(action)[:, self._place] == self._values
        return one_hot.astype(np.float32)

    def log_probs(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> LogProbs:
        """Compute log-probabilities of actions and entropies, summed over the independent choices of an action.

        Illegal values have probability 0.
        """
        logits, chosen = (x.split_with_sizes(self._nvec, -1) for x in (outputs, action))
        masks = [None] * len(self._nvec) if mask is None else mask.split_with_sizes(self._nvec, -1)
        each = [_choice(*its) for its in zip(logits, chosen, masks, strict=True)]
        if len(each) == 1:
            return each[0]

        def backward(grad_log_prob: Tensor, grad_entropy: Tensor) -> tuple[Tensor, None]:
            return torch.cat([own.backward(grad_log_prob, grad_entropy)[0] for own in each], -1), None

        log_prob, entropy = (
            torch.stack(x).sum(0) for x in ([its.log_prob for its in each], [its.entropy for its in each])
        )
        return LogProbs(log_prob, entropy, backward)

    def legal(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """Return masks with a legal value in each choice: all values of a choice that has none count as legal."""
        starts = np.concatenate([[0], np.cumsum(self._nvec)[:-1]])
        some = np.maximum.reduceat(mask, starts, axis=1) > 0
        return (mask.astype(bool) | ~some[:, self._place]).astype(np.float32)


def _choice(logits: Tensor, action: Tensor, mask: Tensor | None) -> LogProbs:
    """Compute log-probability and entropy of one choice; an action that the mask forbids counts as none.

    With p = softmax(logits) and the one-hot action a:

        log p(a) = sum(a log p)      H = -sum(p log p)
        d log p(a) / d logits = a - p      d H / d logits = -p (log p + H)
    """
    if mask is None:
        log_probs, probs = _softmax(logits)
    else:
        illegal, action = mask == 0, action * mask
        log_probs, probs = _softmax(logits.masked_fill(illegal, -torch.inf))
        log_probs = log_probs.masked_fill(illegal, 0)  # p log p of what cannot be is 0
    log_prob, entropy = (log_probs * action).sum(-1), -(log_probs * probs).sum(-1)

    def backward(grad_log_prob: Tensor, grad_entropy: Tensor) -> tuple[Tensor, None]:
        by_log_prob = action - probs * action.sum(-1, keepdim=True)  # 0 where the action was illegal
        by_entropy = probs * (log_probs + entropy.unsqueeze(-1))
        return grad_log_prob.unsqueeze(-1) * by_log_prob - grad_entropy.unsqueeze(-1) * by_entropy, None

    return LogProbs(log_prob, entropy, backward)


def _softmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and probabilities over the last axis.

    Written out, as torch's own works row by row there: for five values that takes three times as long.
    """
    shifted = logits - logits.amax(-1, keepdim=True)
    odds = shifted.exp()
    total = odds.sum(-1, keepdim=True)
    return shifted - total.log(), odds / total


class Bernoulli(Distribution):
    """Distribution over MultiBinary actions: independent switches, each with the logit of being on."""

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Encode the switches of MultiBinary actions as the numbers 0 and 1."""
        return flat(action).astype(np.float32)

    def log_probs(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> LogProbs:
        """Compute log-probabilities of actions and entropies, summed over the independent switches of an action.

        With the logit x, the probability p = sigmoid(x) and the action a of one switch:

            log p(a) = a x - log(1 + e^x)        H = log(1 + e^x) - p x
            d log p(a) / d x = a - p             d H / d x = -x p (1 - p)
        """
        # torch's own softplus and sigmoid round the last numbers of a tensor otherwise than the others.
        log_partition = torch.relu(outputs) + torch.log1p(torch.exp(-outputs.abs()))
        probs = 1 / (1 + torch.exp(-outputs))
        log_prob = (action * outputs - log_partition).sum(-1)

        def backward(grad_log_prob: Tensor, grad_entropy: Tensor) -> tuple[Tensor, None]:
            by_entropy = outputs * probs * (1 - probs)
            return grad_log_prob.unsqueeze(-1) * (action - probs) - grad_entropy.unsqueeze(-1) * by_entropy, None

        return LogProbs(log_prob, (log_partition - probs * outputs).sum(-1), backward)


class Joint(Distribution):
    """Distribution over actions that are dictionaries or tuples: each leaf is drawn by itself, from its own outputs."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._leaves = [leaf.space for leaf in leaves(space)]
        self._each = [_of_leaf(leaf) for leaf in self._leaves]
        self._widths = [leaf.width for leaf in self._leaves]

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Encode each leaf by its own distribution, side by side."""
        parts = zip(self._each, leaf_arrays(self._space, action), strict=True)
        return np.concatenate([own.encode(part) for own, part in parts], 1)

    def log_probs(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> LogProbs:
        """Compute log-probabilities of actions and entropies: the sums over the leaves."""
        split = [None if x is None else x.split_with_sizes(self._widths, -1) for x in (outputs, log_std, action, mask)]
        each = [
            own.log_probs(*(None if parts is None else parts[i] for parts in split))  # type: ignore[arg-type]
            for i, own in enumerate(self._each)
        ]

        def backward(grad_log_prob: Tensor, grad_entropy: Tensor) -> tuple[Tensor, Tensor | None]:
            by_outputs, by_log_std = zip(*(own.backward(grad_log_prob, grad_entropy) for own in each), strict=True)
            if log_std is None:
                return torch.cat(by_outputs, -1), None
            # Leaves that are no Box do not use their part of log_std.
            parts = log_std.split_with_sizes(self._widths, -1)
            grads = [torch.zeros_like(x) if g is None else g for x, g in zip(parts, by_log_std, strict=True)]
            return torch.cat(by_outputs, -1), torch.cat(grads, -1)

        log_prob, entropy = (
            torch.stack(x).sum(0) for x in ([its.log_prob for its in each], [its.entropy for its in each])
        )
        return LogProbs(log_prob, entropy, backward)

    def legal(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """Return masks as wide as the outputs: what a mask says of choices, and 1 for all that cannot be masked."""
        parts, at = [], 0
        for own, space in zip(self._each, self._leaves, strict=True):
            if isinstance(own, Categorical):
                parts.append(own.legal(mask[:, at : at + space.width]))
                at += space.width
            else:
                parts.append(np.ones((len(mask), space.width), np.float32))
        return np.concatenate(parts, 1)


def distribution_of(space: Space) -> Distribution:
    """Choose the probability distribution from which policies draw actions of this space."""
    if isinstance(space, DictSpace | TupleSpace):
        return Joint(space)
    return _of_leaf(space)


def _of_leaf(space: LeafSpace) -> Distribution:
    match space:
        case Box():
            return Gaussian(space)
        case Discrete(n, start):
            return Categorical((n,), (start,))
        case MultiDiscrete():
            return Categorical(space.nvec, space.start)
        case MultiBinary():
            return Bernoulli()
