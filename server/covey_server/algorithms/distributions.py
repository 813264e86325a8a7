"""Stochastic policies: how likely an action was, and how undecided a policy is, for packs of networks.

Dims: K networks, B decisions each, O outputs of a network, D decisions. Actions are held as numbers of the outputs'
width, so that one gather serves every kind of action.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from covey.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space, action_bounds

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


class Distribution(ABC):
    """The actions of one space."""

    @abstractmethod
    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Stored actions (D, *shape) as numbers (D, O)."""

    @abstractmethod
    def judge(
        self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of actions, and entropy: (K, B) each.

        Args:
            outputs: (K, B, O) of policies, as `covey.policy_file.PolicySpec` says.
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

    def judge(
        self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """In units of [-1, 1]; the entropy is the same for all observations."""
        assert log_std is not None
        wide = log_std.unsqueeze(1)
        deviations = (action - outputs) * torch.exp(-wide)
        constant = (log_std + _HALF_LOG_2_PI).sum(-1, keepdim=True)
        log_prob = -0.5 * deviations.square().sum(-1) - constant
        return log_prob, (constant + 0.5 * log_std.shape[-1]).expand_as(log_prob)


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

    def judge(
        self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Illegal values have probability 0; log-probabilities of choices add up."""
        illegal = None if mask is None else mask == 0
        logits = outputs if illegal is None else outputs.masked_fill(illegal, -torch.inf)
        if len(self._nvec) == 1:
            log_probs = F.log_softmax(logits, -1)
        else:
            log_probs = torch.cat([F.log_softmax(x, -1) for x in torch.split(logits, self._nvec, -1)], -1)
        if illegal is not None:
            log_probs = log_probs.masked_fill(illegal, 0)  # p log p of what cannot be is 0
        return (log_probs * action).sum(-1), -(log_probs.exp() * log_probs).sum(-1)

    def legal(self, mask: NDArray[Any]) -> NDArray[np.float32]:
        """Choice by choice."""
        starts = np.concatenate([[0], np.cumsum(self._nvec)[:-1]])
        some = np.maximum.reduceat(mask, starts, axis=1) > 0
        return (mask.astype(bool) | ~some[:, self._place]).astype(np.float32)


class Bernoulli(Distribution):
    """MultiBinary: independent switches, each with the logit of being on."""

    def encode(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """As they are."""
        return action.astype(np.float32)

    def judge(
        self, outputs: Tensor, log_std: Tensor | None, action: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of switches add up."""
        log_partition = F.softplus(outputs)
        log_prob = (action * outputs - log_partition).sum(-1)
        return log_prob, (log_partition - torch.sigmoid(outputs) * outputs).sum(-1)


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
