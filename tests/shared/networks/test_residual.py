"""SimBa and ResNet: what they compute, that growth keeps it, and that configurations and manifests give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from covey.acting.tape import Tape
from covey.config import NetConfig, load_config
from covey.config.architecture import resolve
from covey.config.encoder_choice import encoder_of
from covey.errors import ConfigError
from covey.networks import MLP, Encoder, Input, NetworkSpec, NumpyOps, Params, ResNet, SimBa
from covey.networks.pack import PackLayout
from covey.networks.resize import grow, insert_layer, remove_layer, shrink
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces
from covey_server.packing.torch_ops import TorchOps

NAME = "encoder.observation"
VECTOR = Box("float32", (5,), (-1.0,) * 5, (1.0,) * 5)
IMAGE = Box("uint8", (9, 8, 2), (0,) * 144, (255,) * 144)
LIMITS: dict[str, Any] = {"min_block_size": 2, "max_block_size": 50}
KINDS: dict[str, Encoder] = {
    "simba": SimBa(hidden_size=6, block_size=(8, 7), **LIMITS),
    "simba, GELU": SimBa(hidden_size=6, block_size=(8,), activation="GELU", **LIMITS),
    "resnet": ResNet(image=(9, 8, 2), channel_size=3, stride_size=2, block_size=(5, 4), **LIMITS),
    "resnet, Tanh, channels first": ResNet(
        image=(9, 8, 2), channels_first=True, channel_size=3, block_size=(5,), activation="Tanh", **LIMITS
    ),
}


def network(encoder: Encoder) -> NetworkSpec:
    width = 7 if encoder.kind == "simba" else 147  # of an image, and three numbers beside it
    spec = NetworkSpec(
        inputs=(Input("observation", width, encoder),), head=MLP(hidden_size=(8,)), outputs=3, latent_dim=5
    )
    spec.check()
    return spec


def drawn(spec: NetworkSpec) -> Params:
    """Parameters none of which is special, as after some training."""
    rng = np.random.default_rng(0)
    return {p.name: rng.normal(0, 0.4, p.shape).astype(np.float32) for p in spec.parameters}


def seen(spec: NetworkSpec, *lead: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((*lead, spec.inputs[0].width)).astype(np.float32)


def computed(spec: NetworkSpec, params: Params) -> NDArray[np.float32]:
    y: NDArray[np.float32] = spec.apply(NumpyOps(), params, [seen(spec, 4)])
    return y


def norm(x: NDArray[Any], scale: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    centred = x - x.mean(-1, keepdims=True)
    normal: NDArray[Any] = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + bias
    return normal


def test_simba_is_what_its_paper_says() -> None:
    spec = network(KINDS["simba"])
    p = {name.removeprefix(f"{NAME}."): value for name, value in drawn(spec).items()}
    x = seen(spec, 4)
    h = x @ p["in.weight"] + p["in.bias"]
    for i in range(2):
        inside = np.maximum(norm(h, p[f"{i}.norm.scale"], p[f"{i}.norm.bias"]) @ p[f"{i}.weight"] + p[f"{i}.bias"], 0)
        h = h + inside @ p[f"{i}.back.weight"] + p[f"{i}.back.bias"]
    expected = norm(h, p["norm.scale"], p["norm.bias"]) @ p["out.weight"] + p["out.bias"]
    got = KINDS["simba"].apply(NumpyOps(), drawn(spec), NAME, x, {}, {})
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["resnet", "resnet, Tanh, channels first"])
def test_resnet_is_what_torchs_convolutions_give(kind: str) -> None:
    encoder = KINDS[kind]
    assert isinstance(encoder, ResNet)
    spec = network(encoder)
    p = {name.removeprefix(f"{NAME}."): torch.from_numpy(value) for name, value in drawn(spec).items()}
    act = torch.relu if encoder.activation == "ReLU" else torch.tanh

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        w = p[f"{name}.weight"].reshape(3, 3, x.shape[1], -1).permute(3, 2, 0, 1)
        return torch.nn.functional.conv2d(x, w, p[f"{name}.bias"], stride, 1)

    x = torch.from_numpy(seen(spec, 4))
    image = (
        x[:, :144].reshape(4, 2, 9, 8) if encoder.channels_first else x[:, :144].reshape(4, 9, 8, 2).permute(0, 3, 1, 2)
    )
    h = conv("in", image, encoder.stride_size)
    for i in range(encoder.layers):
        h = h + conv(f"{i}.back", act(conv(f"{i}", act(h))))
    flat = torch.cat([act(h).permute(0, 2, 3, 1).flatten(1), x[:, 144:]], -1)
    expected = flat @ p["out.weight"] + p["out.bias"]
    got = encoder.apply(NumpyOps(), drawn(spec), NAME, seen(spec, 4), {}, {})
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", list(KINDS))
def test_numpy_torch_and_tapes_compute_the_same(kind: str) -> None:
    spec = network(KINDS[kind])
    params = drawn(spec)
    expected = computed(spec, params)
    got = spec.apply(TorchOps(), {k: torch.from_numpy(v) for k, v in params.items()}, [torch.from_numpy(seen(spec, 4))])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3, atol=1e-4)
    tape, x = Tape(), np.zeros((1, 4, spec.inputs[0].width), np.float32)
    y = spec.apply(tape, {k: v[None] for k, v in params.items()}, [x])
    for _ in range(2):
        x[...] = seen(spec, 4)
        tape.replay()
        np.testing.assert_allclose(y[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_added_changes_no_output(kind: str) -> None:
    spec = network(KINDS[kind])
    params = drawn(spec)
    before = computed(spec, params)
    rng = np.random.default_rng(2)
    for resize in (insert_layer(spec, NAME, rng), grow(spec, f"{NAME}.0.units", 3, rng), grow(spec, "latent", 2, rng)):
        np.testing.assert_allclose(computed(resize.spec, resize.weights(params)), before, rtol=1e-4, atol=1e-5)
    deeper = insert_layer(spec, NAME, rng)
    own, layers = deeper.weights(params), spec.inputs[0].encoder.layers
    assert np.abs(own[f"{NAME}.{layers}.weight"]).min() < np.abs(own[f"{NAME}.{layers}.weight"]).max()
    removed = remove_layer(deeper.spec, NAME)
    assert removed.spec == spec
    again = removed.weights(own)
    assert all(np.array_equal(again[name], params[name]) for name in params)
    fewer = shrink(spec, f"{NAME}.0.units", 2, params)
    fewer.spec.check()
    assert np.isfinite(computed(fewer.spec, fewer.weights(params))).all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_stacks_of_different_widths_and_depths_compute_what_each_does_alone(kind: str) -> None:
    spec = network(KINDS[kind])
    rng = np.random.default_rng(3)
    specs = [spec, grow(spec, f"{NAME}.0.units", 5, rng).spec]
    if spec.inputs[0].encoder.kind == "simba":
        specs.append(insert_layer(spec, NAME, rng).spec)
    assert len({own.structure for own in specs}) == 1
    layout = PackLayout(tuple(specs))
    params = [drawn(own) for own in specs]
    y = layout.padded.apply(NumpyOps(), layout.views(layout.pack(params)), [seen(spec, len(specs), 4)])
    for k, own in enumerate(specs):
        alone = own.apply(NumpyOps(), params[k], [seen(spec, len(specs), 4)[k]])
        np.testing.assert_allclose(y[k], alone, rtol=1e-4, atol=1e-5)


def chosen(space: Box, **config: Any) -> Encoder:
    return encoder_of(
        NetConfig.model_validate({"encoder_config": config}).encoder_config, space, "network", "agent 'a'"
    )


def test_configurations_have_agilerls_keys_and_defaults() -> None:
    assert chosen(VECTOR, kind="simba") == SimBa()
    assert chosen(IMAGE, kind="resnet") == ResNet(image=(9, 8, 2))
    keys: dict[str, Any] = {"num_blocks": 3, "scale_factor": 2, "min_blocks": 2, "max_blocks": 5}
    assert chosen(VECTOR, kind="simba", hidden_size=10, min_mlp_nodes=4, max_mlp_nodes=20, **keys) == SimBa(
        hidden_size=10,
        block_size=(20,) * 3,
        min_hidden_layers=2,
        max_hidden_layers=5,
        min_block_size=8,
        max_block_size=40,
    )
    sizes = {"channel_size": 8, "kernel_size": 5, "stride_size": 2, "min_channel_size": 4, "max_channel_size": 16}
    assert chosen(IMAGE, kind="resnet", channels="first", **sizes, **keys) == ResNet(
        image=(8, 2, 9),
        channels_first=True,
        channel_size=8,
        kernel_size=5,
        stride_size=2,
        block_size=(16,) * 3,
        min_hidden_layers=2,
        max_hidden_layers=5,
        min_block_size=8,
        max_block_size=32,
    )


@pytest.mark.parametrize(
    ("config", "space", "words"),
    [
        ({"kind": "simba", "hidden_size": [8, 8]}, VECTOR, ["hidden_size: [8, 8], expected one number"]),
        ({"kind": "simba", "channel_size": 8}, VECTOR, ["channel_size, no key of kind 'simba'"]),
        ({"kind": "simba", "layer_norm": True}, VECTOR, ["layer_norm, no key of kind 'simba'"]),
        ({"kind": "resnet"}, VECTOR, ["kind 'resnet', but agent 'a' observes", "expected an image"]),
        ({"kind": "resnet", "kernel_size": 4}, IMAGE, ["kernel_size: 4, expected an odd number", "write 3 or 5"]),
        ({"kind": "resnet", "num_blocks": 8}, IMAGE, ["8 blocks", "at most 7"]),
        ({"kind": "resnet", "hidden_size": 8}, IMAGE, ["hidden_size, no key of kind 'resnet'"]),
        ({"num_blocks": 2}, VECTOR, ["num_blocks, no key of kind 'mlp'"]),
        ({"num_blocks": 2}, IMAGE, ["num_blocks, no key of kind 'cnn'"]),
    ],
)
def test_what_does_not_fit_is_told(config: dict[str, Any], space: Box, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        chosen(space, **config)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("network", "kind", "observation"),
    [
        ({"simba": True, "encoder_config": {"hidden_size": 64, "num_blocks": 1}}, "simba", VECTOR),
        ({"arch": "simba", "encoder_config": {"hidden_size": 64, "num_blocks": 1}}, "simba", VECTOR),
        (
            {"encoder_cls": "ResNet", "encoder_config": {"channel_size": 16, "kernel_size": 3, "stride_size": 1}},
            "resnet",
            IMAGE,
        ),
        ({"arch": "resnet", "encoder_config": {"channel_size": 16}}, "resnet", IMAGE),
    ],
)
def test_agilerls_manifests_train_as_what_they_say(
    network: dict[str, Any], kind: str, observation: Box, tmp_path: Path
) -> None:
    manifest = tmp_path / "job.yaml"
    sections = {
        "algorithm": {"name": "MATD3"},
        "environment": {"name": "mpe2.simple_spread_v3"},
        "training": {"max_steps": 100},
        "network": network,
    }
    manifest.write_text(yaml.safe_dump(sections))
    spaces = EnvironmentSpaces.build([AgentSpec("a_0", observation, Discrete(2))])
    (own,) = resolve(load_config(manifest).network, spaces, False).values()
    encoder = encoder_of(own.encoder_config, observation, "network", "agent 'a'")
    assert encoder.kind == kind and encoder.layers == own.encoder_config.num_blocks
    assert {64, 16} & {getattr(encoder, "hidden_size", 0), getattr(encoder, "channel_size", 0)}


@pytest.mark.parametrize("kind", ["simba", "resnet"])
@pytest.mark.parametrize("key", ["block_size", "hidden_size", "channel_size", "kernel_size", "stride_size", "image"])
@pytest.mark.parametrize("value", [0, -1, [], [0], [1 << 40] * 5, "x", None, 1.5, [[1]], 1 << 60])
def test_hostile_descriptions_are_refused(kind: str, key: str, value: Any) -> None:
    data = network(KINDS[kind]).to_json()
    own = data["inputs"][0]["encoder"]
    if key not in own or (key, value) == ("stride_size", 1 << 60):  # then there is one window
        return
    own[key] = value
    with pytest.raises(ConfigError):
        NetworkSpec.from_json(data)
