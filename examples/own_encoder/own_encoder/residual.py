"""A function that makes a torch.nn.Module, which reads observations and gives features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two layers whose result is added to what they read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Compute x + layers(x)."""
        return x + self.layers(x)


def residual(shape: tuple[int, ...], width: int = 32, blocks: int = 2) -> nn.Module:
    """Make a residual network: (batch, *shape) observations to (batch, width) features.

    Args:
        shape: Of one observation. covey gives it, and the keywords that `encoder_config.options` has.
        width: Features.
        blocks: Residual blocks.
    """
    layers = [nn.Flatten(), nn.Linear(math.prod(shape), width), *(Block(width) for _ in range(blocks))]
    with torch.no_grad():
        for block in layers[2:]:
            block.layers[-1].weight.zero_()  # so that every block passes what it reads at first
    return nn.Sequential(*layers)
