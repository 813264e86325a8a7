"""Convolutional encoders and encoders of several inputs: numbers, mutations that change no output, packs, JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from covey.acting.tape import Tape
from covey.errors import ConfigError
from covey.networks import CNN, MLP, ImagePart, Input, MultiInput, NetworkSpec, NumpyOps, Params
from covey.networks.convolution import Convolution, Window
from covey.networks.pack import PackLayout
from covey.networks.resize import (
    Resize,
    change_kernel,
    get_subnetwork,
    grow,
    insert_layer,
    remove_layer,
    shrink,
    subnetwork_names,
    with_subnetwork,
)
from covey_server.packing.torch_ops import TorchOps, grouped_convolution

BATCH = 5


def network(encoder: Any, width: int) -> NetworkSpec:
    return NetworkSpec(inputs=(Input("observation", width, encoder),), head=MLP(hidden_size=(7,)), outputs=4)


def cnn(activation: str = "ReLU", **changes: Any) -> CNN:
    own: dict[str, Any] = {
        **{"image": (9, 8, 3), "channel_size": (8, 6), "kernel_size": (3, 2), "stride_size": (2, 1)},
        **{"padding": (0, 0), "activation": activation, **changes},
    }
    return CNN(**own)


def several(activation: str = "ReLU") -> NetworkSpec:
    """A vector of 2, an image of 5 x 5 x 2, 3 numbers, an image of 4 x 4, and 4 numbers behind."""
    one = CNN(
        image=(5, 5, 2), channel_size=(4,), kernel_size=(3,), stride_size=(1,), padding=(0,), activation=activation
    )
    two = CNN(image=(4, 4, 1), channels_first=True, channel_size=(4, 3), kernel_size=(2, 2), activation=activation)
    encoder = MultiInput(
        images=(ImagePart("camera", 2, one), ImagePart("map.0", 55, two)),
        vector=MLP(hidden_size=(5,), activation=activation),
        activation=activation,
    )
    return network(encoder, 2 + 50 + 3 + 16 + 4)


SPECS = {
    "pixels last": network(cnn(), 216),
    "pixels first, index": network(cnn(channels_first=True), 218),
    "gated, border": network(cnn("Tanh", gated=(1,), padding=(1, 0)), 218),
    "cropped": network(cnn("GELU", padding=(-1, 0)), 216),
    "three layers of stride 1": network(
        cnn(channel_size=(4, 8, 8), kernel_size=(3, 3, 1), stride_size=(1, 1, 1), padding=(0, 1, 0)), 216
    ),
    "several inputs": several(),
    "several inputs, GELU": several("GELU"),
}


def drawn(spec: NetworkSpec, seed: int = 0) -> Params:
    """Parameters of which none is 0 or 1."""
    rng = np.random.default_rng(seed)
    return {name: p + rng.normal(0, 0.1, p.shape).astype(np.float32) for name, p in spec.init(rng).items()}


def seen(spec: NetworkSpec, *lead: int) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(*lead, BATCH, spec.inputs[0].width)).astype(np.float32)


def outputs(spec: NetworkSpec, params: Params) -> np.ndarray:
    y: np.ndarray = spec.apply(NumpyOps(), params, [seen(spec)])
    return y


def same(resize: Resize, params: Params, spec: NetworkSpec) -> None:
    """A change of an architecture changes no output."""
    resize.spec.check()
    np.testing.assert_allclose(outputs(resize.spec, resize.weights(params)), outputs(spec, params), atol=2e-5)
    moments = resize.moments(params)
    assert {p.name: p.shape for p in resize.spec.parameters} == {name: m.shape for name, m in moments.items()}


@pytest.fixture(params=list(SPECS))
def spec(request: pytest.FixtureRequest) -> NetworkSpec:
    return SPECS[request.param]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("padding", [-1, 0, 1])
def test_convolutions_are_torchs(first: bool, padding: int) -> None:
    encoder = cnn(channels_first=first, padding=(padding, 0))
    params = drawn(network(encoder, 216))
    x = seen(network(encoder, 216))
    images = torch.from_numpy(x.reshape(-1, *((3, 9, 8) if first else (9, 8, 3))))
    y = images if first else images.permute(0, 3, 1, 2)
    y = y[..., 1:-1, 1:-1] if padding < 0 else y
    for i, (kernel, stride, border) in enumerate(((3, 2, max(0, padding)), (2, 1, 0))):
        own = {key: torch.from_numpy(params[f"encoder.observation.{i}.{key}"]) for key in ("weight", "bias")}
        weight = own["weight"].reshape(kernel, kernel, -1, encoder.channel_size[i]).permute(3, 2, 0, 1)
        y = F.conv2d(y, weight, own["bias"], stride, border).relu()
    flat = y.permute(0, 2, 3, 1).flatten(1).numpy()
    expected = flat @ params["encoder.observation.out.weight"] + params["encoder.observation.out.bias"]
    got = encoder.apply(NumpyOps(), params, "encoder.observation", x, {}, {})
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_numpy_torch_and_tapes_agree_on_networks_and_packs(spec: NetworkSpec) -> None:
    params = drawn(spec)
    torch_params = {name: torch.from_numpy(p) for name, p in params.items()}
    got = spec.apply(TorchOps(), torch_params, [torch.from_numpy(seen(spec))])
    np.testing.assert_allclose(got.numpy(), outputs(spec, params), atol=1e-5)
    specs = (spec, *(spec.resized({label: n + by for label, n in spec.sizes.items()}) for by in (3, 1)))
    natural = [drawn(own, k) for k, own in enumerate(specs)]
    layout = PackLayout(specs)
    flat = layout.pack(natural)
    x = seen(spec, len(specs))
    views, valid = layout.views(flat), layout.valid()
    tape, read = Tape(), np.zeros_like(x)
    replayed = layout.padded.apply(tape, views, [read], valid=valid)
    read[...] = x
    tape.replay()
    tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in views.items()}
    packed = layout.padded.apply(TorchOps(), tensors, [torch.from_numpy(x)])
    for k, (own, its) in enumerate(zip(specs, natural, strict=True)):
        alone = own.apply(NumpyOps(), its, [x[k].copy()])
        for y in (replayed[k], packed[k].numpy()):
            np.testing.assert_allclose(y, alone, atol=1e-5)
    for its, back in zip(natural, layout.unpack(flat), strict=True):
        assert all(np.array_equal(its[name], back[name]) for name in its)


@pytest.mark.parametrize(
    ("window", "channels", "outputs"), [(Window(4, 4, 4), 3, 8), (Window(5, 5, 3, 3), 2, 7), (Window(3, 3, 3, 3), 1, 1)]
)
def test_a_window_as_large_as_the_image_warns_of_nothing(window: Window, channels: int, outputs: int) -> None:
    """Its product has one row, so that memory behind the weights may be read, where there may be any number."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3 * window.height * window.width, channels)).astype(np.float32)
    memory = np.full(2 * window.kernel**2 * channels * outputs + 64, np.inf, np.float32)
    w = memory[:-64].reshape(2, -1, outputs)
    w[:] = rng.normal(size=w.shape)
    b = np.zeros((2, outputs), np.float32)
    convolution = Convolution(x, w, b, window)
    assert window.cells == 1 and convolution._reads_beyond
    expected = TorchOps().convolution(torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b), window)
    with np.errstate(all="raise"):
        np.testing.assert_allclose(convolution(), expected.numpy(), atol=1e-4)


def test_convolutions_in_groups_are_those_network_by_network() -> None:
    draw = torch.Generator().manual_seed(0)
    for padding in (-1, 0, 1):
        window = replace(cnn().windows[0], padding=padding)
        x, w, b = (torch.randn(*shape, generator=draw) for shape in ((3, 144, 3), (3, 27, 5), (3, 5)))
        together = grouped_convolution(x, w, b, window)
        torch.testing.assert_close(together, TorchOps().convolution(x, w, b, window))


def test_growth_changes_no_output_and_shrinking_it_gives_the_network_back(spec: NetworkSpec) -> None:
    params = drawn(spec)
    for label in spec.sizes:
        grown = grow(spec, label, 3, np.random.default_rng(1))
        same(grown, params, spec)
        wide = grown.weights(params)
        back = shrink(grown.spec, label, 3, wide)
        assert back.spec == spec
        assert all(np.array_equal(p, params[name]) for name, p in back.weights(wide).items())


def test_an_inserted_layer_changes_no_output(spec: NetworkSpec) -> None:
    params = drawn(spec)
    for name in subnetwork_names(spec):
        if get_subnetwork(spec, name).layers:
            once = insert_layer(spec, name)
            same(once, params, spec)
            same(insert_layer(once.spec, name), once.weights(params), once.spec)
            assert remove_layer(once.spec, name).spec == spec


def test_a_removed_convolution_is_folded_as_if_it_were_linear(spec: NetworkSpec) -> None:
    for name in subnetwork_names(spec):
        spec = with_subnetwork(spec, name, replace(get_subnetwork(spec, name), activation="Identity"))
    for name in subnetwork_names(spec):
        fewer, params = spec, drawn(spec)
        while get_subnetwork(fewer, name).layers > 1:
            resize = remove_layer(fewer, name)
            same(resize, params, fewer)
            fewer, params = resize.spec, resize.weights(params)


@pytest.mark.parametrize(("padding", "gated"), [((0, 1), ()), ((1, -1), ()), ((0, 1), (1,)), ((-1, 2), (0, 1))])
def test_a_removed_convolution_with_a_border_or_a_gate_is_folded_too(
    padding: tuple[int, ...], gated: tuple[int, ...]
) -> None:
    encoder = cnn("Identity", kernel_size=(3, 3), stride_size=(1, 1), padding=padding, gated=gated)
    spec = network(encoder, 218)
    params = drawn(spec)
    same(remove_layer(spec, "encoder.observation"), params, spec)


def test_larger_windows_change_no_output_and_smaller_ones_give_the_network_back(spec: NetworkSpec) -> None:
    params = drawn(spec)
    for name in subnetwork_names(spec):
        own = get_subnetwork(spec, name)
        for layer in range(own.layers if isinstance(own, CNN) else 0):
            wider = change_kernel(spec, name, layer, 1)
            assert get_subnetwork(wider.spec, name).kernel_size[layer] == own.kernel_size[layer] + 2
            same(wider, params, spec)
            weights = wider.weights(params)
            back = change_kernel(wider.spec, name, layer, -1)
            assert back.spec == spec
            assert all(np.array_equal(p, params[key]) for key, p in back.weights(weights).items())


def test_smaller_windows_keep_their_middle(spec: NetworkSpec) -> None:
    """A smaller kernel computes what the larger one does with zeros for the weights of its border."""
    params = drawn(spec)
    for name in subnetwork_names(spec):
        own = get_subnetwork(spec, name)
        for layer in range(own.layers if isinstance(own, CNN) else 0):
            if (kernel := own.kernel_size[layer]) < 3:
                continue
            smaller = change_kernel(spec, name, layer, -1)
            key = f"{name}.{layer}.weight"
            grid = params[key].reshape(kernel, kernel, -1, params[key].shape[1]).copy()
            edge = np.ones((kernel, kernel), np.bool_)
            edge[1:-1, 1:-1] = False
            grid[edge] = 0
            expected = outputs(spec, {**params, key: grid.reshape(params[key].shape)})
            np.testing.assert_allclose(outputs(smaller.spec, smaller.weights(params)), expected, atol=2e-5)


def test_an_architecture_comes_back_from_json(spec: NetworkSpec) -> None:
    assert NetworkSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_size": [10, 2]},
        {"kernel_size": [3]},
        {"stride_size": [0, 1]},
        {"image": [9, 8]},
        {"image": [9, 8, 4]},
        {"image": [1 << 40, 1 << 40, 1]},
        {"padding": [3, 0]},
        {"padding": [-4, 0]},
        {"padding": [1 << 30, 0]},
        # One window of which the border would be described number by number.
        {"kernel_size": [30_000, 2], "padding": [29_999, 0], "stride_size": [60_000, 1]},
        {"stride_size": [1, 1], "kernel_size": [3, 2], "padding": [2, 0]},  # more pixels than are read
        {"channel_size": [8, 1 << 40]},
        {"channel_size": [8, 6.5]},
        {"gated": [2]},
        {"activation": "Sine"},
        {"spin": 1},
        {"kind": "spinning"},
    ],
)
def test_an_architecture_that_no_image_fits_is_refused(changes: dict[str, Any]) -> None:
    data = SPECS["pixels last"].to_json()
    data["inputs"][0]["encoder"] |= changes
    with pytest.raises(ConfigError):
        NetworkSpec.from_json(data)


def test_more_multiplications_than_an_actor_takes_are_refused() -> None:
    wide = cnn(image=(512, 512, 1), channel_size=(256, 1), kernel_size=(9, 1), stride_size=(1, 1))
    data = network(wide, 512 * 512).to_json()
    with pytest.raises(ConfigError, match="multiplications for one observation"):
        NetworkSpec.from_json({**data, "latent_dim": 2})


@pytest.mark.parametrize("start", [0, 3, 70, -1])
def test_images_that_overlap_or_lie_outside_are_refused(start: int) -> None:
    data = several().to_json()
    data["inputs"][0]["encoder"]["images"][1]["start"] = start
    with pytest.raises(ConfigError):
        NetworkSpec.from_json(data)
