"""Runs stacked policies with memory over sequences of decisions, with gradients through all of a sequence.

Dims: K networks, S sequences of L decisions each, B = S * L, W inputs, H numbers of a state, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from covey.networks import NetworkSpec
from covey.networks.ops import Activation
from covey_server.packing.torch_ops import TorchOps

OPS = TorchOps()


def over_sequences(
    spec: NetworkSpec,
    params: Mapping[str, Any],
    x: Tensor,
    states: Tensor,
    begins: Tensor,
    valid: Mapping[str, Tensor],
    activations: Mapping[str, Activation],
) -> Tensor:
    """Compute the outputs (K, B, O) of K stacked networks for S sequences each, one sequence after another.

    What observations bring is computed for all decisions at once, and so is what follows from the states; only the
    states themselves come one after another.

    Args:
        spec: The padded architecture, with memory.
        params: Parameters by name.
        x: (K, B, W), what is seen.
        states: (K, B, H), the state before each decision as it was before learning.
        begins: (K, S, L), 1 where that state is taken, and 0 where the one that the decision before led to.
        valid: As `NetworkSpec.apply` has it.
        activations: Likewise.
    """
    networks, sequences, steps = begins.shape
    gates = spec.read(OPS, params, x, valid, activations).reshape(networks, sequences, steps, -1)
    before = states.reshape(networks, sequences, steps, -1)
    fresh = begins.unsqueeze(-1)
    state, found = before[:, :, 0], []
    for t in range(steps):
        if t:
            state = torch.lerp(state, before[:, :, t], fresh[:, :, t])  # exactly one of the two
        state = spec.advance(OPS, params, gates[:, :, t], state)
        found.append(state)
    return spec.decide(OPS, params, torch.stack(found, 2).flatten(1, 2), valid, activations)  # type: ignore[no-any-return]
