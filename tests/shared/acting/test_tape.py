"""A pass written down once gives in every replay what `apply` gives."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from covey.acting.tape import Tape
from covey.networks import MLP, Input, NetworkSpec, NumpyOps
from covey.networks.ops import ACTIVATIONS
from covey.networks.pack import PackLayout


def network(units: int, activation: str, **mlp: object) -> NetworkSpec:
    encoder = MLP(hidden_size=(units, units), activation=activation, min_mlp_nodes=1, **mlp)  # type: ignore[arg-type]
    return NetworkSpec(
        inputs=(Input("observation", 5, encoder),),
        head=MLP(hidden_size=(7,), activation=activation),
        outputs=3,
        latent_dim=6,
    )


def agree(specs: list[NetworkSpec], rows: int) -> None:
    """Hold replays against `apply`, for numbers of all sizes."""
    layout = PackLayout(tuple(specs))
    rng = np.random.default_rng(0)
    params = layout.views(layout.pack([{k: v * 3 for k, v in s.init(rng).items()} for s in specs]))
    known = {"valid": layout.valid(), "activations": layout.activations(range(len(specs)))}
    x = np.zeros((len(specs), rows, 5), np.float32)
    tape = Tape()
    y = layout.padded.apply(tape, params, [x], **known)  # type: ignore[arg-type]
    for scale in (1, 30):
        x[...] = scale * rng.normal(size=x.shape)
        tape.replay()
        expected = layout.padded.apply(NumpyOps(), params, [x.copy()], **known)  # type: ignore[arg-type]
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str, rows: int) -> None:
    agree([network(4, activation), network(8, activation)], rows)


@pytest.mark.parametrize("mlp", [{"layer_norm": True}, {"gated": (1,)}])
def test_norms_and_gates_with_padding(mlp: dict[str, object]) -> None:
    agree([network(4, "Tanh", **mlp), network(8, "Tanh", **mlp)], 2)


def test_networks_that_differ_in_depth_and_activation() -> None:
    wide = network(8, "GELU")
    encoder = wide.inputs[0].encoder
    assert isinstance(encoder, MLP)
    deeper = Input("observation", 5, encoder.with_layer())
    agree([network(4, "ReLU"), replace(wide, inputs=(deeper,)), network(4, "ELU")], 2)


def test_a_tape_goes_with_its_last_reference() -> None:
    spec = network(4, "GELU", layer_norm=True, gated=(1,))
    layout = PackLayout((spec,))
    params = layout.views(layout.pack([spec.init(np.random.default_rng(0))]))
    tape = Tape()
    layout.padded.apply(tape, params, [np.zeros((1, 2, 5), np.float32)])
    tape.replay()
    gone = weakref.ref(tape)
    gc.disable()
    try:
        del tape
        assert gone() is None
    finally:
        gc.enable()
