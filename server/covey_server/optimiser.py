"""Adam over rows: every row of a (K, P) matrix is a network with a learning rate and a step count of its own."""

from __future__ import annotations

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


def adam_(
    params: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    steps: Tensor,
    *,
    gradient: Tensor,
    lr: Tensor,
    max_norm: float | None,
) -> None:
    """One step in place, as `torch.optim.Adam` does it (Kingma and Ba, 2015), without a synchronisation.

    Args:
        params: (K, P).
        first_moment: (K, P).
        second_moment: (K, P).
        steps: (K,) float64, steps made before; raised by one.
        gradient: (K, P); overwritten.
        lr: (K,) learning rates.
        max_norm: Each row's gradient is scaled down to this norm, as `torch.nn.utils.clip_grad_norm_`; None: never.
    """
    if max_norm is not None:
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
    steps.add_(1)
    first_moment.lerp_(gradient, 1 - BETAS[0])
    second_moment.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    # lr / c1 * m / (sqrt(v) / c2 + eps), rearranged into m / (sqrt(v) * a + b) to pass over the matrices less often.
    step_size = lr / (1 - BETAS[0] ** steps)
    root = (1 - BETAS[1] ** steps).sqrt_()
    a = (1 / (step_size * root)).to(params.dtype).unsqueeze(1)
    b = (EPS / step_size).to(params.dtype).unsqueeze(1)
    # Moments are often 0 or denormal, of which square roots take up to thirty times longer; 1e-30 is far below EPS.
    denominator = torch.add(second_moment, 1e-30, out=gradient).sqrt_()
    params.addcdiv_(first_moment, denominator.mul_(a).add_(b), value=-1)
