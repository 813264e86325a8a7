"""Functions that make torch modules as strangers might: some that can be encoders, and every kind that cannot."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

NO_FUNCTION = 3


class Scaled(nn.Module):
    """A small network with a parameter that is one number."""

    def __init__(self, numbers: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(numbers, hidden), nn.LayerNorm(hidden), nn.Tanh(), nn.Linear(hidden, 6))
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Any:
        return self.scale * self.layers(x.flatten(1))


def scaled(shape: tuple[int, ...], hidden: int = 8) -> nn.Module:
    return Scaled(math.prod(shape), hidden)


def lazy(shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(5), nn.ReLU(inplace=True))


def conv(shape: tuple[int, ...]) -> nn.Module:
    """Reads (height, width, channels) images."""

    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(shape[2], 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten())

        def forward(self, x: Tensor) -> Any:
            return self.layers(x.permute(0, 3, 1, 2))

    return Images()


def parts(shapes: dict[str, tuple[int, ...]]) -> nn.Module:
    """Reads dictionaries: an image and a choice."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.choice = nn.Linear(math.prod(shapes["image"]), 3), nn.Linear(shapes["choice"][0], 2)

        def forward(self, seen: dict[str, Tensor]) -> Any:
            return torch.cat([self.image(seen["image"].flatten(1)), self.choice(seen["choice"])], -1)

    return Parts()


class Recurrent(nn.Module):
    """A GRU over the observation's numbers, which torch does not compute in stacks."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 7, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.gru(x.flatten(1).unsqueeze(-1))[1][0]


def recurrent(shape: tuple[int, ...]) -> nn.Module:
    return Recurrent()


class Told(nn.Module):
    """Computes what it is told to."""

    def __init__(self, shape: tuple[int, ...], how: str) -> None:
        super().__init__()
        self.layer = nn.Linear(math.prod(shape), 4)
        self.how = how

    def forward(self, x: Tensor) -> Any:
        y = self.layer(x.flatten(1))
        match self.how:
            case "tuple":
                return y, y
            case "double":
                return y.double()
            case "integers":
                return y.long()
            case "three axes":
                return y.unsqueeze(-1)
            case "one axis":
                return y.sum(-1)
            case "mean":
                return y - y.mean(0)
            case "noise":
                return y + torch.randn_like(y)
            case "functional dropout":
                return nn.functional.dropout(y, training=self.training)
            case "infinite":
                return y / 0
            case "in place":
                x.mul_(2)
                return y
            case "raises":
                raise ValueError("no such luck")
        return y


def told(shape: tuple[int, ...], how: str = "plain") -> nn.Module:
    return Told(shape, how)


def batch_norm(shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4), nn.BatchNorm1d(4))


def dropout(shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4), nn.Dropout(1e-9))


def frozen(shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4).requires_grad_(False))


def doubles(shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4).double())


_count = [0]


def other_each_time(shape: tuple[int, ...]) -> nn.Module:
    _count[0] += 1
    layer = nn.Linear(math.prod(shape), 4)
    nn.init.constant_(layer.weight, float(_count[0]))
    return nn.Sequential(nn.Flatten(), layer)


def returns_none(shape: tuple[int, ...]) -> None:
    return None


def fails(shape: tuple[int, ...]) -> nn.Module:
    raise RuntimeError("the file of weights\nis missing")
