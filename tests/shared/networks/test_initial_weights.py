"""Initial weights of networks."""

from __future__ import annotations

import numpy as np
import pytest

from covey.networks import MLP, Input, NetworkSpec


def spec(inputs: int, hidden: tuple[int, ...], latent: int, outputs: int, gain: float = 1.0) -> NetworkSpec:
    """A network with an encoder of one input."""
    layers = MLP(hidden_size=hidden, activation="Tanh", min_hidden_layers=0)
    return NetworkSpec(
        inputs=(Input("x", inputs, layers),), head=layers, latent_dim=latent, outputs=outputs, output_gain=gain
    )


@pytest.mark.parametrize(
    "made",
    [spec(18, (64,), 64, 5, 0.1), spec(3, (), 8, 1), spec(40, (16, 16), 4, 12, 2.0)],
    ids=["wide", "flat", "deep"],
)
def test_orthogonal_weights_keep_lengths_and_biases_are_zero(made: NetworkSpec) -> None:
    params = made.init(np.random.default_rng(0), orthogonal=True)
    for name, value in params.items():
        if name.endswith("bias"):
            assert not value.any()
            continue
        gain = made.output_gain if name == "head.out.weight" else np.sqrt(2)
        few = value if value.shape[0] <= value.shape[1] else value.T
        np.testing.assert_allclose(few @ few.T, gain**2 * np.eye(len(few)), atol=1e-5)
    again = made.init(np.random.default_rng(0), orthogonal=True)
    assert all(np.array_equal(params[name], again[name]) for name in params)
