"""Adam over rows: every row of a (K, P) matrix is a network with a learning rate and a step count of its own."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


def adam_(
    params: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    *,
    gradient: Tensor,
    steps: NDArray[np.int64],
    lr: NDArray[np.float64],
    max_norm: float | NDArray[np.float64] | None,
) -> None:
    """One step in place, as `torch.optim.Adam` does it (Kingma and Ba, 2015), without a synchronisation.

    Args:
        params: (K, P).
        first_moment: (K, P).
        second_moment: (K, P).
        gradient: (K, P); overwritten.
        steps: (K,) steps made with this one.
        lr: (K,) learning rates.
        max_norm: Each row's gradient is scaled down to this norm, or its own of (K,), as
            `torch.nn.utils.clip_grad_norm_`; None: never.
    """
    if max_norm is not None:
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        bound = _column(max_norm, params) if isinstance(max_norm, np.ndarray) else max_norm
        gradient.mul_((bound / (norm + 1e-6)).clamp_(max=1.0))
    first_moment.lerp_(gradient, 1 - BETAS[0])
    second_moment.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    # lr / c1 * m / (sqrt(v) / c2 + eps), rearranged into m / (sqrt(v) * a + b) to pass over the matrices less often.
    # A rate of 0 would divide by 0; the smallest float32 moves nothing either.
    step_size = np.maximum(lr, 1e-38) / (1 - BETAS[0] ** steps)
    a = 1 / (step_size * np.sqrt(1 - BETAS[1] ** steps))
    factor, summand = _column(np.stack([a, EPS / step_size]), params).unbind()
    # Moments are often 0 or denormal, of which square roots take up to thirty times longer; 1e-30 is far below EPS.
    denominator = torch.add(second_moment, 1e-30, out=gradient).sqrt_()
    params.addcdiv_(first_moment, denominator.mul_(factor).add_(summand), value=-1)


def _column(values: NDArray[np.float64], like: Tensor) -> Tensor:
    """Numbers per row, (..., K), as (..., K, 1) beside a matrix."""
    return torch.from_numpy(values.astype(np.float32)).to(like.device, non_blocking=True).unsqueeze(-1)
