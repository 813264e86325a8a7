"""Adam over stacked networks, each a row of a matrix, with a learning rate and a step count of its own."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


Runs = tuple[tuple[tuple[int, int], ...], ...]
"""For each learning rate: runs (first row, behind the last row) of neighbours that have it and equal step counts."""


def runs_of(lr: NDArray[np.float64], steps: NDArray[np.int64]) -> Runs:
    """Group K networks into runs of neighbours with equal learning rates, lr (K,), and step counts, steps (K,)."""
    runs: dict[float, list[tuple[int, int]]] = {}
    at = 0
    for (rate, _), alike in groupby(zip(lr.tolist(), steps.tolist(), strict=True)):
        end = at + len(list(alike))
        runs.setdefault(rate, []).append((at, end))
        at = end
    return tuple(map(tuple, runs.values()))


def adam_(
    params: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    steps: Tensor,
    rates: Tensor,
    *,
    gradient: Tensor,
    runs: Runs,
    max_norm: float | Tensor | None,
) -> None:
    """Make one Adam step on K stacked networks in place, as `torch.optim.Adam` does it, without waiting for the device.

    Args:
        params: (K, P) parameters, P numbers a network.
        first_moment: (K, P) running means of gradients.
        second_moment: (K, P) running means of squared gradients.
        steps: (K,) float32, steps made with this one.
        rates: (K,) learning rates: float64, or float32 on a GPU.
        gradient: (K, P); overwritten.
        runs: Runs of neighbouring rows with equal learning rate and step count, as `runs_of` gives them.
        max_norm: Each row's gradient is scaled down to this norm, or to its own of (K,), as
            `torch.nn.utils.clip_grad_norm_` does it; None: never.
    """
    if max_norm is not None:
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        bound = max_norm.unsqueeze(1) if isinstance(max_norm, Tensor) else max_norm
        gradient.mul_((bound / (norm + 1e-6)).clamp_(max=1.0))
    # The kernel of `torch.optim.Adam(fused=True)` passes over the matrices once. It takes one rate a call, and a step
    # count per tensor.
    for its in runs:
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            [params[a:b] for a, b in its],
            [gradient[a:b] for a, b in its],
            [first_moment[a:b] for a, b in its],
            [second_moment[a:b] for a, b in its],
            [],
            [steps[a] for a, _ in its],
            lr=rates[its[0][0]],
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )
