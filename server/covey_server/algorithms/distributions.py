"""Stochastic policies: how likely an action was, and how undecided a policy is, for packs of networks.

Dims: K networks, B decisions each, O outputs of a network, D decisions. Actions are held as numbers of the outputs'
width, so that one gather serves every kind of action.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from covey.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space, action_bounds

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, slots=True)
class Judged:
    """What policies say of actions.

    Attributes:
        log_prob: (K, B), of the actions.
        entropy: (K, B).
        back: From the gradients of both, (K, B) each, that of the outputs (K, B, O), and of `log_std` (K, O) where
            there is one.
    """

    log_prob: Tensor
    entropy: Tensor
    back: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class Distribution(ABC):
    """The actions of one space."""

    @abstractmethod
    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Stored actions (D, *shape) as numbers (D, O)."""

    @abstractmethod
    def judge(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> Judged:
        """Judge actions.

        Args:
            outputs: (K, B, O) of policies, as `covey.wire.policy_file.PolicySpec` says.
            log_std: (K, O) where actions are Gaussian.
            action: (K, B, O), encoded.
            mask: (K, B, O), 1 for legal actions, or None where all are. Each choice has a legal one.
        """

    def legal(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """Masks (D, O) in which every choice has a legal action: where none is, all are."""
        return mask.astype(np.float32)


class Gaussian(Distribution):
    """Box: means in units of the action range mapped to [-1, 1], one standard deviation for all observations."""

    def __init__(self, space: Box) -> None:
        self._low, self._high = action_bounds(space)

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """In the units of the means."""
        flat = action.reshape(len(action), -1).astype(np.float64)
        span = self._high - self._low
        # A bound that leaves no room has one action: any number stands for it.
        return np.where(span > 0, 2 * (flat - self._low) / np.where(span > 0, span, 1) - 1, 0).astype(np.float32)

    def judge(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> Judged:
        """In units of [-1, 1]; the entropy is the same for all observations."""
        assert log_std is not None
        inverse = torch.exp(-log_std).unsqueeze(1)
        deviations = (action - outputs) * inverse
        squares = deviations * deviations
        constant = (log_std + _HALF_LOG_2_PI).sum(-1, keepdim=True)
        log_prob = -0.5 * squares.sum(-1) - constant

        def back(of_log_prob: Tensor, of_entropy: Tensor) -> tuple[Tensor, Tensor]:
            of_outputs = of_log_prob.unsqueeze(-1) * deviations * inverse
            of_constant = (of_entropy - of_log_prob).sum(-1, keepdim=True)
            return of_outputs, torch.bmm(of_log_prob.unsqueeze(1), squares).squeeze(1) + of_constant

        return Judged(log_prob, (constant + 0.5 * log_std.shape[-1]).expand_as(log_prob), back)


class Categorical(Distribution):
    """Discrete and MultiDiscrete: independent choices, their logits one after another."""

    def __init__(self, nvec: Sequence[int], start: int = 0) -> None:
        self._nvec, self._start = list(nvec), start
        self._values = np.concatenate([np.arange(start, start + n) for n in nvec])
        self._place = np.repeat(np.arange(len(nvec)), nvec)

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """One-hot, choice by choice."""
        one_hot: NDArray[np.bool_] = action.reshape(len(action), -1)[:, self._place] == self._values
        return one_hot.astype(np.float32)

    def judge(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> Judged:
        """Illegal values have probability 0; log-probabilities of choices add up."""
        logits, chosen = (x.split_with_sizes(self._nvec, -1) for x in (outputs, action))
        masks = [None] * len(self._nvec) if mask is None else mask.split_with_sizes(self._nvec, -1)
        each = [_choice(*its) for its in zip(logits, chosen, masks, strict=True)]
        if len(each) == 1:
            return each[0]

        def back(of_log_prob: Tensor, of_entropy: Tensor) -> tuple[Tensor, None]:
            return torch.cat([own.back(of_log_prob, of_entropy)[0] for own in each], -1), None

        log_prob, entropy = (
            torch.stack(x).sum(0) for x in ([its.log_prob for its in each], [its.entropy for its in each])
        )
        return Judged(log_prob, entropy, back)

    def legal(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """Choice by choice."""
        starts = np.concatenate([[0], np.cumsum(self._nvec)[:-1]])
        some = np.maximum.reduceat(mask, starts, axis=1) > 0
        return (mask.astype(bool) | ~some[:, self._place]).astype(np.float32)


def _choice(logits: Tensor, action: Tensor, mask: Tensor | None) -> Judged:
    """One choice of a Categorical; what the environment chose against the mask counts as no action."""
    if mask is None:
        log_probs = F.log_softmax(logits, -1)
        probs = log_probs.exp()
    else:
        illegal, action = mask == 0, action * mask
        log_probs = F.log_softmax(logits.masked_fill(illegal, -torch.inf), -1)
        probs = log_probs.exp()
        log_probs = log_probs.masked_fill(illegal, 0)  # p log p of what cannot be is 0
    log_prob, entropy = (log_probs * action).sum(-1), -(log_probs * probs).sum(-1)

    def back(of_log_prob: Tensor, of_entropy: Tensor) -> tuple[Tensor, None]:
        chosen = action - probs * action.sum(-1, keepdim=True)
        surprise = probs * (log_probs + entropy.unsqueeze(-1))
        return of_log_prob.unsqueeze(-1) * chosen - of_entropy.unsqueeze(-1) * surprise, None

    return Judged(log_prob, entropy, back)


class Bernoulli(Distribution):
    """MultiBinary: independent switches, each with the logit of being on."""

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """As they are."""
        return action.astype(np.float32)

    def judge(self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None) -> Judged:
        """Log-probabilities of switches add up."""
        log_partition = F.softplus(outputs)
        probs = torch.sigmoid(outputs)
        log_prob = (action * outputs - log_partition).sum(-1)

        def back(of_log_prob: Tensor, of_entropy: Tensor) -> tuple[Tensor, None]:
            surprise = outputs * probs * (1 - probs)
            return of_log_prob.unsqueeze(-1) * (action - probs) - of_entropy.unsqueeze(-1) * surprise, None

        return Judged(log_prob, (log_partition - probs * outputs).sum(-1), back)


def distribution_of(space: Space) -> Distribution:
    """How policies draw actions of this space."""
    match space:
        case Box():
            return Gaussian(space)
        case Discrete(n, start):
            return Categorical((n,), start)
        case MultiDiscrete(nvec):
            return Categorical(nvec)
        case MultiBinary():
            return Bernoulli()
