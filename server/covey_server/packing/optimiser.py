"""Adam over rows: every row of a (K, P) matrix is a network with a learning rate and a step count of its own."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


Runs = dict[float, list[tuple[int, int]]]
"""By learning rate: neighbouring rows, first and behind the last, that have it and have made equally many steps."""


def runs_of(lr: NDArray[np.float64], steps: NDArray[np.int64]) -> Runs:
    """The runs of K rows with these learning rates and step counts."""
    runs: Runs = {}
    at = 0
    for (rate, _), alike in groupby(zip(lr.tolist(), steps.tolist(), strict=True)):
        end = at + len(list(alike))
        runs.setdefault(rate, []).append((at, end))
        at = end
    return runs


def adam_(
    params: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    steps: Tensor,
    *,
    gradient: Tensor,
    runs: Runs,
    max_norm: float | NDArray[np.float64] | None,
) -> None:
    """One step in place, as `torch.optim.Adam` does it (Kingma and Ba, 2015), without a synchronisation.

    Args:
        params: (K, P).
        first_moment: (K, P).
        second_moment: (K, P).
        steps: (K,) float32, steps made with this one.
        gradient: (K, P); overwritten.
        runs: Of all rows.
        max_norm: Each row's gradient is scaled down to this norm, or its own of (K,), as
            `torch.nn.utils.clip_grad_norm_`; None: never.
    """
    if max_norm is not None:
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        bound = _numbers(max_norm, params).unsqueeze(1) if isinstance(max_norm, np.ndarray) else max_norm
        gradient.mul_((bound / (norm + 1e-6)).clamp_(max=1.0))
    # The kernel of `torch.optim.Adam(fused=True)` passes over the matrices once. It takes one rate a call, and a step
    # count per tensor.
    for rate, its in runs.items():
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            [params[a:b] for a, b in its],
            [gradient[a:b] for a, b in its],
            [first_moment[a:b] for a, b in its],
            [second_moment[a:b] for a, b in its],
            [],
            [steps[a] for a, _ in its],
            lr=rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )


def _numbers(values: NDArray[np.float64], like: Tensor) -> Tensor:
    """Numbers of the host beside a matrix, (K,)."""
    return torch.from_numpy(values.astype(np.float32)).to(like.device, non_blocking=True)
