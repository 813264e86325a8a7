"""Numpy and torch agree on every operation and every spec, natural and packed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from covey.networks import MLP, Input, NetworkSpec, NumpyOps, Ops, Params
from covey.networks.ops import ACTIVATIONS, Activation
from covey.networks.pack import PackLayout
from covey_server.packing.torch_ops import TorchOps

BATCH = 7


def spec(
    activation: str, hidden: int, layer_norm: bool, copies: int, extra: int, *, width: int = 9, outputs: int = 3
) -> NetworkSpec:
    def mlp(layers: int) -> MLP:
        return MLP(
            hidden_size=(width,) * layers,
            activation=activation,
            layer_norm=layer_norm,
            gated=tuple(i for i in range(layers) if i % 2),
        )

    return NetworkSpec(
        inputs=(Input("a", 4, mlp(hidden), copies), Input("b", 5, mlp(1))),
        head=mlp(hidden),
        outputs=outputs,
        extra=extra,
        latent_dim=width + 1,
    )


def arguments(s: NetworkSpec, lead: tuple[int, ...]) -> tuple[list[np.ndarray], np.ndarray | None]:
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=(*lead, i.width * i.copies)).astype(np.float32) for i in s.inputs]
    extra = rng.normal(size=(*lead, s.extra)).astype(np.float32) if s.extra else None
    return inputs, extra


def both(
    s: NetworkSpec,
    params: Params,
    lead: tuple[int, ...],
    valid: Params,
    activations: dict[str, Activation] | None = None,
) -> tuple[np.ndarray, torch.Tensor]:
    inputs, extra = arguments(s, lead)
    expected = s.apply(NumpyOps(), params, [x.copy() for x in inputs], extra, valid=valid, activations=activations)
    got = s.apply(
        TorchOps(),
        {name: torch.from_numpy(np.ascontiguousarray(p)) for name, p in params.items()},
        [torch.from_numpy(x) for x in inputs],
        None if extra is None else torch.from_numpy(extra),
        valid={name: torch.from_numpy(v) for name, v in valid.items()},
        activations=activations,
    )
    return expected, got


CASES = list(itertools.product((1, 3), (0, 2)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("hidden", [0, 1, 2])
def test_numpy_and_torch_agree_on_natural_networks(activation: str, layer_norm: bool, hidden: int) -> None:
    for copies, extra in CASES:
        s = spec(activation, hidden, layer_norm, copies, extra)
        params = s.init(np.random.default_rng(0))
        for name in params:
            if name.endswith("gate"):
                params[name] *= np.float32(0.3)
        expected, got = both(s, params, (BATCH,), {})
        assert got.shape == (BATCH, 3)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_numpy_and_torch_agree_on_packs_and_packs_on_their_networks(
    activation: str, layer_norm: bool, outputs: int
) -> None:
    for copies, extra in CASES:
        specs = tuple(spec(activation, 2, layer_norm, copies, extra, width=w, outputs=outputs) for w in (9, 5, 12))
        natural = [s.init(np.random.default_rng(k)) for k, s in enumerate(specs)]
        layout = PackLayout(specs)
        lead = (3, BATCH)
        expected, got = both(layout.padded, layout.views(layout.pack(natural)), lead, layout.valid())
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5)
        inputs, extras = arguments(layout.padded, lead)
        for k, (s, params) in enumerate(zip(specs, natural, strict=True)):
            own = s.apply(NumpyOps(), params, [x[k].copy() for x in inputs], None if extras is None else extras[k])
            np.testing.assert_allclose(got[k].numpy(), own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numpy_and_torch_agree_on_packs_of_other_depths_and_activations(activation: str) -> None:
    """Networks 1 and 2 are gated where 0 is not, or has no layer; extra layers of "Tanh" must not act."""
    for copies, extra in CASES:
        specs = tuple(
            spec(name, hidden, False, copies, extra, width=w)
            for name, hidden, w in ((activation, 1, 9), ("Tanh", 2, 5), (activation, 3, 12), ("Tanh", 1, 4))
        )
        natural = [s.init(np.random.default_rng(k)) for k, s in enumerate(specs)]
        for params in natural:
            for name in params:
                if name.endswith("gate"):
                    params[name] *= np.float32(0.3)
        layout = PackLayout(specs)
        lead = (4, BATCH)
        flat = layout.pack(natural)
        expected, got = both(layout.padded, layout.views(flat), lead, layout.valid(), layout.activations(range(4)))
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5)
        inputs, extras = arguments(layout.padded, lead)
        for k, (s, params) in enumerate(zip(specs, natural, strict=True)):
            own = s.apply(NumpyOps(), params, [x[k].copy() for x in inputs], None if extras is None else extras[k])
            np.testing.assert_allclose(got[k].numpy(), own, rtol=1e-5, atol=1e-5)
        for params, back in zip(natural, layout.unpack(flat), strict=True):
            assert params.keys() == back.keys() and all(np.array_equal(params[n], back[n]) for n in params)
        assert not layout.pack(natural, moments=True)[layout.mask == 0].any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gates_of_0_and_1_are_exact(activation: str) -> None:
    x = np.random.default_rng(0).normal(0, 30, (3, 4, 2)).astype(np.float32)
    g = np.array([[0, 1]] * 3, np.float32)
    backends: list[tuple[Ops, Callable[[np.ndarray], Any]]] = [(NumpyOps(), np.copy), (TorchOps(), torch.from_numpy)]
    for ops, convert in backends:
        y = np.asarray(ops.gated(activation, convert(g), convert(x)))
        assert np.array_equal(y[..., 0], x[..., 0])
        assert np.array_equal(y[..., 1], np.asarray(ops.activation(activation, convert(x.copy())))[..., 1])


def test_large_inputs_agree_where_implementations_switch_formulas() -> None:
    x = np.array([-200, -30, -20.5, -1e-8, 0, 1e-8, 19.9, 20.5, 30, 200], np.float32)
    for activation in ACTIVATIONS:
        expected = NumpyOps().activation(activation, x.copy())
        got = TorchOps().activation(activation, torch.from_numpy(x))
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-7, err_msg=activation)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match="'Sine'"):
        TorchOps().activation("Sine", torch.zeros(1))


@pytest.mark.parametrize("columns", [2, 5, 12])
def test_gradients_of_layers_with_few_columns_are_those_of_wide_ones(columns: int) -> None:
    draw = torch.Generator().manual_seed(0)
    leaves = [torch.randn(*shape, generator=draw) for shape in ((3, BATCH, 4), (3, 4, columns), (3, columns))]
    pull = torch.randn(3, BATCH, columns, generator=draw)
    found = []
    for linear in (TorchOps().linear, lambda x, w, b: x @ w + b.unsqueeze(1)):
        own = [leaf.clone().requires_grad_() for leaf in leaves]
        y = linear(*own)
        found.append([y.detach(), *torch.autograd.grad(y, own, pull)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
