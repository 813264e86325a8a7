"""What policies with memory remembered at each decision of a round, computed again from where actors began.

The states that actors sent are those at the beginning of their streams; all later ones follow from the observations, by
the policies that played. So each policy runs once through its trajectories, before it learns from them: that gives the
log-probabilities of all actions, the states from which sequences start, and those that value networks read.

Dims: R pairs of a policy and a value, V views and D decisions of all of them, as in `pooled`; K policies of a pack,
LANES trajectories side by side, T decisions of the longest of these; H numbers of the largest state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.algorithms.actor_critic_rows import ActorCriticRows
from covey_server.algorithms.pooled import Pooled
from covey_server.algorithms.round_inputs import Change, RoundInputs

LANES = 32
"""Trajectories of a policy that run side by side: always as many, as products round by how many rows they have."""


@dataclass(frozen=True, slots=True)
class WithState:
    """What networks read of a round, with what policies remembered behind it.

    Attributes:
        inputs: What they read without.
        state: (V, H).
    """

    inputs: RoundInputs
    state: Tensor

    def take(self, index: Tensor) -> Tensor:
        """Return what networks read in these views."""
        return torch.cat([self.inputs.take(index), self.state[index]], -1)

    def change(self, change: Change) -> None:
        """Change what is read without the state."""
        self.inputs.change(change)


@dataclass(frozen=True, slots=True)
class Recollection:
    """What policies with memory remembered in a round, and what they thought of their actions.

    Attributes:
        state: (V, H), what was remembered before each observation was looked at; zeros where policies have no memory.
        log_prob: (D,), of the actions.
        known: (D,) bool, whose decisions these are: those of policies with memory.
    """

    state: Tensor
    log_prob: Tensor
    known: Tensor

    def beside(self, pooled: Pooled) -> Pooled:
        """Return a round whose networks find the states behind what they read."""
        inputs = WithState(pooled.inputs, self.state)
        same = pooled.value_inputs is pooled.inputs
        return replace(
            pooled, inputs=inputs, value_inputs=inputs if same else WithState(pooled.value_inputs, self.state)
        )


def recollected(pooled: Pooled, networks: Sequence[ActorCriticRows]) -> Recollection | None:
    """Run all policies with memory through their trajectories; None where there are none.

    Args:
        pooled: The round.
        networks: All policies and values, pack by pack.
    """
    own_memory = [own for own in networks if own.recurrent]
    if not own_memory:
        return None
    device, decisions = pooled.device, int(pooled.counts.sum())
    # Packs differ in what they are padded to, and values may be padded to more than the policies that learn now.
    widest = max(max(own.rows.pack.spec.state_size, own.rows.pack.spec.reads_memory) for own in networks)
    state = torch.zeros(int(pooled.view_counts.sum()), widest, device=device)
    log_prob = torch.zeros(decisions, device=device)
    known = torch.zeros(decisions, dtype=torch.bool, device=device)
    first = np.flatnonzero(pooled.begins)
    length = np.diff(np.append(first, decisions))
    pair = np.searchsorted(np.cumsum(pooled.counts), first, side="right")
    starts = np.zeros((len(first), widest), np.float32)
    if pooled.starts is not None:
        starts[:, : pooled.starts.shape[1]] = pooled.starts[:, :widest]
    for own in own_memory:
        # Of each policy its trajectories, the longest first, so that those side by side are of similar length.
        its = [np.flatnonzero(pair == p) for p in own.policies]
        its = [runs[np.argsort(-length[runs], kind="stable")] for runs in its]
        for chunk in range(-(-max(map(len, its)) // LANES)):
            lanes = [runs[chunk * LANES : (chunk + 1) * LANES] for runs in its]
            at = np.zeros((len(lanes), LANES), np.int64)
            steps = np.zeros((len(lanes), LANES), np.int64)
            for k, runs in enumerate(lanes):
                at[k, : len(runs)], steps[k, : len(runs)] = runs, length[runs]
            _run(own, pooled, first[at], steps, starts[at], (state, log_prob, known))
    return Recollection(state, log_prob, known)


def _run(
    own: ActorCriticRows,
    pooled: Pooled,
    first: NDArray[np.int64],
    steps: NDArray[np.int64],
    starts: NDArray[np.float32],
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Run K policies through LANES trajectories each, and write what comes of it.

    Args:
        own: The policies.
        pooled: The round.
        first: (K, LANES), the first decision of each trajectory.
        steps: (K, LANES), its number of decisions; 0 in padding.
        starts: (K, LANES, H), the state before it.
        into: States by view, log-probabilities and whether they are known by decision.
    """
    state, log_prob, known = into
    device = state.device
    t = np.arange(steps.max())[:, None, None]
    index = torch.from_numpy(first + np.minimum(t, np.maximum(steps - 1, 0))).to(device)  # (T, K, LANES)
    real = torch.from_numpy(t < steps).to(device)
    size = own.rows.pack.spec.state_size
    now = torch.from_numpy(starts[..., :size].copy()).to(device)
    step = own.rows.stepper()
    before, after, outputs = [], [], []
    for decision in index:
        before.append(now)
        y, now = step(pooled.inputs.take(pooled.here[decision]), now)
        after.append(now)
        outputs.append(y)
    # By policy, its decisions of all times side by side: (K, T * LANES, ...).
    decided = index.transpose(0, 1).flatten(1)
    y = torch.stack(outputs, 1).flatten(1, 2)
    mask = None if pooled.mask is None else pooled.mask[decided]
    found = own.log_probs(y, own.log_std(), pooled.action[decided], mask)
    theirs, acted = real.transpose(0, 1).flatten(1), index[real]
    log_prob[decided[theirs]] = found.log_prob[theirs]
    known[acted] = True
    state[pooled.after[acted], :size] = torch.stack(after)[real]
    state[pooled.here[acted], :size] = torch.stack(before)[real]
