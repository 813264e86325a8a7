"""Adam on rows of packs is PyTorch's Adam."""

import numpy as np
import pytest
import torch

from covey_server.packing.optimiser import adam_, runs_of


def test_adam_is_pytorchs_adam_with_a_rate_and_a_count_per_row() -> None:
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(3, 20, generator=draw)
    gradients = torch.randn(10, 3, 20, generator=draw)
    gradients[:, :, 0] = 0
    lr = np.array([1e-3, 1e-2, 0.3])
    params, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for i, g in enumerate(gradients):
        steps = np.full(3, i + 1)
        made = torch.from_numpy(steps).float()
        adam_(
            params, first, second, made, torch.from_numpy(lr), gradient=g.clone(), runs=runs_of(lr, steps), max_norm=2.0
        )
    for k in range(3):
        own = torch.nn.Parameter(start[k].clone())
        adam = torch.optim.Adam([own], lr=float(lr[k]))
        for g in gradients:
            own.grad = g[k].clone()
            torch.nn.utils.clip_grad_norm_([own], 2.0)
            adam.step()
        torch.testing.assert_close(params[k], own.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(params[:, 0], start[:, 0])


def test_every_row_has_its_own_bound_of_the_gradient() -> None:
    gradient = torch.full((3, 4), 10.0)
    first = torch.zeros(3, 4)
    adam_(
        torch.zeros(3, 4),
        first,
        torch.zeros(3, 4),
        torch.ones(3),
        torch.full((3,), 0.1).double(),
        gradient=gradient,
        runs=(((0, 3),),),
        max_norm=torch.tensor([2.0, 4.0, 1000.0]),
    )
    assert torch.linalg.vector_norm(first, dim=1).tolist() == pytest.approx([0.2, 0.4, 2.0])
