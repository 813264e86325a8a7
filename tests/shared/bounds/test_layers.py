"""What layers are said to give for one sample is what they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support import replays

from covey.bounds.layers import LayerOutputs, layer_outputs
from covey.config import parse_config
from covey.networks.convolution import Window
from covey.networks.ops import Array, NumpyOps
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey.spaces.kinds import DictSpace
from covey_server.algorithms import ALGORITHMS

SAMPLES = 3


class Counting(NumpyOps):
    """Counts the numbers that layers give."""

    def __init__(self) -> None:
        self.numbers = self.largest = 0

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        y = super().linear(x, w, b)
        self.numbers += y.size
        return y

    def convolution(self, x: Array, w: Array, b: Array, window: Window) -> Array:
        y = super().convolution(x, w, b, window)
        self.numbers += y.size
        self.largest = max(self.largest, y.size)
        return y


def image(*shape: int) -> Box:
    numbers = int(np.prod(shape))
    return Box("uint8", shape, (0,) * numbers, (255,) * numbers)


SEEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "vector": (replays.box(7), {}),
    "image": (image(20, 20, 3), {}),
    "image, three layers": (image(12, 12, 2), {"channel_size": [8, 9, 5], "kernel_size": [3, 3, 3]}),
    "residual": (image(9, 9, 2), {"kind": "resnet", "channel_size": 6, "num_blocks": 2}),
    "image and vector": (DictSpace((("image", image(10, 10, 2)), ("speed", replays.box(3)))), {}),
}


@pytest.mark.parametrize("name", ["MATD3", "IPPO", "QMIX"])
@pytest.mark.parametrize("seen", SEEN)
def test_layers_give_as_many_numbers_as_are_counted(seen: str, name: str) -> None:
    space, encoder = SEEN[seen]
    spaces = EnvironmentSpaces.build([AgentSpec(f"a_{i}", space, Discrete(4)) for i in range(3)])
    config = parse_config(
        {
            "algorithm": {"name": name},
            "environment": {"name": "none"},
            "network": {"encoder_config": encoder},
            "training": {},
        }
    )
    rng = np.random.default_rng(0)
    for spec in ALGORITHMS[name].network_specs(config, spaces).values():
        ops = Counting()
        xs = [rng.random((SAMPLES, i.copies * i.width)).astype(np.float32) for i in spec.inputs]
        extra = rng.random((SAMPLES, spec.extra)).astype(np.float32) if spec.extra else None
        spec.apply(ops, spec.init(rng), xs, extra)
        told = layer_outputs(spec)
        assert (told.numbers * SAMPLES, told.convolution * SAMPLES) == (ops.numbers, ops.largest)
        assert told == LayerOutputs.total([told, LayerOutputs()])
