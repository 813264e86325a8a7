"""Sequences of decisions, from which policies with memory learn, in shuffled minibatches of whole sequences.

All decisions of an agent in a round, one trajectory after another, are cut into sequences of L, the last one shorter.
Where a trajectory begins within a sequence, the state begins anew. Example: trajectories of 3 and 4 decisions, L = 5:

    decision   0 1 2 | 3 4    5 6
    begins     1 0 0   1 0  | 1 0     the second sequence begins with the state that its decision had before learning

Dims: R networks, D decisions, Q sequences of all of them; n minibatches of S sequences each (padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.algorithms.epochs import Epoch, Minibatches
from covey_server.algorithms.pooled import Pooled
from covey_server.algorithms.shuffles import Shuffle


class Sequences:
    """Cuts the decisions of R networks into sequences, and shuffles these into minibatches, epoch by epoch.

    Args:
        pooled: The decisions.
        minibatches: Gathers what is known of them.
        sizes: (R,) most decisions in a minibatch of each network, which has at least one sequence.
        steps: L, decisions of a sequence.
        places: S, at least the sequences of any minibatch.
    """

    def __init__(
        self, pooled: Pooled, minibatches: Minibatches, sizes: NDArray[np.int64], steps: int, places: int
    ) -> None:
        self._minibatches, self._steps = minibatches, steps
        device = pooled.device
        ends = np.cumsum(pooled.agent_counts).tolist()
        cut = [np.arange(end - count, end, steps) for count, end in zip(pooled.agent_counts, ends, strict=True)]
        first = np.concatenate(cut)
        last = np.repeat(ends, [len(its) for its in cut])
        pair = np.repeat(pooled.agent_pairs, [len(its) for its in cut])
        counts = np.bincount(pair, minlength=len(pooled.counts)).astype(np.int64)
        self._shuffle = Shuffle(counts, np.maximum(sizes // steps, 1), places, device)
        self._first, self._length, self._own = (
            torch.from_numpy(x).to(device, non_blocking=True)
            for x in (first, np.minimum(last - first, steps), self._shuffle.own)
        )
        self._step = torch.arange(steps, device=device)
        self._begins = torch.from_numpy(pooled.begins.astype(np.float32)).to(device, non_blocking=True)

    def epoch(self, keys: Tensor, streams: Sequence[str], learning: NDArray[np.bool_]) -> Epoch:
        """Shuffle all sequences into minibatches for one epoch; arguments are those of `Minibatches.epoch`."""
        order = self._shuffle.order(keys, streams)  # (n, R, S)
        length = self._length[order].unsqueeze(-1)
        decisions = self._first[order].unsqueeze(-1) + torch.minimum(self._step, length - 1)  # (n, R, S, L)
        real = (self._own.unsqueeze(-1) & (self._step < length)).flatten(2).float()
        weight = real / real.sum(-1, keepdim=True).clamp(min=1)
        begins = self._begins[decisions]
        begins[..., 0] = 1
        begins.masked_fill_(self._step >= length, 1)  # padding repeats the last decision, with the state before it
        epoch = self._minibatches.gathered(decisions.flatten(2), weight, self._shuffle.length > 0, learning)
        return replace(epoch, begins=begins)
