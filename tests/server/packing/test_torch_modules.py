"""Torch modules as encoders: packed as alone, around numpy as around torch; every kind that cannot be one is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.support import own_networks

from covey.acting import LoadedPolicy
from covey.acting.policies import ActingPack
from covey.acting.tape import Tape
from covey.config import NetConfig
from covey.config.encoder_choice import encoder_of
from covey.errors import ConfigError
from covey.networks import MLP, Input, NetworkSpec, NumpyOps, trusted_modules
from covey.networks.pack import PackLayout
from covey.networks.torch_module import TorchModule
from covey.spaces import Box, DictSpace, Discrete, Space
from covey.wire.policy_file import PolicySpec, decode_policy, encode_policy
from covey_server.packing.joint_inputs import ByMember, JointOps
from covey_server.packing.torch_modules import _stackable
from covey_server.packing.torch_ops import TorchOps

HERE = own_networks.__name__
VECTOR = Box("float32", (3,), (-1.0,) * 3, (1.0,) * 3)
IMAGE = Box("uint8", (6, 5, 2), (0,) * 60, (255,) * 60)
TREE = DictSpace((("image", IMAGE), ("choice", Discrete(4))))
GOOD: list[tuple[str, Space]] = [
    ("scaled", VECTOR),
    ("scaled", Discrete(5)),
    ("lazy", VECTOR),
    ("recurrent", VECTOR),
    ("conv", IMAGE),
    ("parts", TREE),
]


def encoder(function: str, space: Space, **options: Any) -> TorchModule:
    config = NetConfig.model_validate({"encoder_config": {"module": f"{HERE}:{function}", "options": options}})
    found = encoder_of(config.encoder_config, space, "network.encoder_config", "agent 'a'")
    assert isinstance(found, TorchModule)
    return found


def network(function: str, space: Space, beside: int = 0) -> NetworkSpec:
    seen = Input("observation", space.width + beside, encoder(function, space))
    spec = NetworkSpec(inputs=(seen,), head=MLP(hidden_size=(8,)), outputs=2, latent_dim=5)
    spec.check()
    return spec


@pytest.mark.parametrize(("function", "space"), GOOD)
@pytest.mark.parametrize("beside", [0, 2])
def test_a_stack_computes_what_each_network_does_alone(function: str, space: Space, beside: int) -> None:
    spec = network(function, space, beside)
    rng = np.random.default_rng(0)
    params = [spec.init(rng) for _ in range(3)]
    assert any(not np.array_equal(params[0][name], params[1][name]) for name in params[0] if ".module." in name)
    specs = (spec, spec.resized({"latent": 7}), spec)
    params[1] = specs[1].init(rng)
    layout = PackLayout(specs)
    flat = layout.pack(params)
    assert all(np.array_equal(a[k], b[k]) for a, b in zip(params, layout.unpack(flat), strict=True) for k in a)
    x = rng.random((3, 4, space.width + beside)).astype(np.float32)
    views = {n: v if v.dim() > 2 else v.unsqueeze(1) for n, v in layout.views(torch.from_numpy(flat)).items()}
    together = layout.padded.apply(TorchOps(), views, [torch.from_numpy(x)])
    for k, own in enumerate(specs):
        alone = own.apply(NumpyOps(), params[k], [x[k].copy()])
        np.testing.assert_allclose(together[k].numpy(), alone, rtol=1e-4, atol=1e-5)
    data = ByMember(torch.from_numpy(x[:1]), ((0, 3, 0),)) if not beside else None
    if data is not None:
        inner, prefix = layout.padded.inputs[0].encoder, "encoder.observation"
        joint = inner.apply(JointOps(), views, prefix, data._replace(runs=((0, 1, 0), (1, 2, 0), (2, 3, 0))), {}, {})
        plain = inner.apply(TorchOps(), views, prefix, data.x.expand(3, -1, -1), {}, {})
        torch.testing.assert_close(joint, plain, rtol=1e-4, atol=1e-5)


def test_stacks_are_computed_at_once_where_torch_can() -> None:
    assert {f: _stackable(encoder(f, space)) for f, space in GOOD} == {
        "scaled": True,
        "lazy": True,
        "recurrent": False,
        "conv": True,
        "parts": True,
    }


@pytest.mark.parametrize("function", ["scaled", "recurrent"])
def test_gradients_reach_the_weights_of_every_network(function: str) -> None:
    spec = network(function, VECTOR)
    layout = PackLayout((spec, spec))
    rng = np.random.default_rng(0)
    flat = torch.from_numpy(layout.pack([spec.init(rng), spec.init(rng)])).requires_grad_()
    views = {n: v if v.dim() > 2 else v.unsqueeze(1) for n, v in layout.views(flat).items()}
    x = torch.rand(2, 6, 3)
    (found,) = torch.autograd.grad(layout.padded.apply(TorchOps(), views, [x]).square().sum(), flat)
    for k in range(2):
        row = flat[k : k + 1].detach().clone().requires_grad_()
        own = {n: v[0] for n, v in PackLayout((spec,)).views(row).items()}
        (alone,) = torch.autograd.grad(spec.apply(TorchOps(), own, [x[k]]).square().sum(), row)
        torch.testing.assert_close(found[k], alone[0], rtol=1e-3, atol=1e-5)
        assert (found[k] != 0).float().mean() > 0.5


def test_a_policy_file_carries_it_and_acting_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = network("scaled", VECTOR)
    params = spec.init(np.random.default_rng(0))
    data = encode_policy(PolicySpec(spec, VECTOR, Discrete(2)), params)
    assert decode_policy(data)[0].network == spec
    policy = LoadedPolicy.decode(data)
    policy.load_modules()
    pack = ActingPack([policy], 3, 2)
    tape, x = Tape(), np.zeros((1, 4, 3), np.float32)
    y = pack.apply(tape, x)
    x[...] = np.random.default_rng(1).random(x.shape)
    tape.replay()
    np.testing.assert_allclose(y[0], spec.apply(NumpyOps(), params, [x[0].copy()]), rtol=1e-5)
    monkeypatch.setattr(trusted_modules, "_trusted", ["somebody.elses:*"])
    with pytest.raises(ConfigError, match=r"is not among those allowed here \(somebody.elses:\*\).*--allow-module"):
        policy.load_modules()


def test_another_version_of_a_module_is_refused() -> None:
    spec = encoder("scaled", VECTOR)
    changed = {**spec.to_json(), "tensors": [["scale", []], ["layers.0.weight", [9, 3]]]}
    with pytest.raises(ConfigError, match=r"layers.0.weight is \(8, 3\) here, expected \(9, 3\) as in the policy"):
        TorchModule.from_json(changed).load()


@pytest.mark.parametrize("key", ["tensors", "reads", "features", "module"])
@pytest.mark.parametrize(
    "value", [None, -1, [["a", [-1]]], [["a", [2**70]]], [[3, ["x"]]], "x", [["a", []], ["a", []]]]
)
def test_a_hostile_description_is_refused_before_it_is_imported(key: str, value: Any) -> None:
    spec = network("scaled", VECTOR)
    data = spec.to_json()
    data["inputs"][0]["encoder"][key] = value
    with pytest.raises(ConfigError):
        NetworkSpec.from_json(data)


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        ("gone", {}, ["does not load", "AttributeError", "correct the name"]),
        ("NO_FUNCTION", {}, ["is int, expected a function"]),
        ("returns_none", {}, ["returned NoneType, expected a torch.nn.Module"]),
        ("fails", {}, ["RuntimeError: the file of weights is missing", "called with (3,)"]),
        ("scaled", {"hiden": 3}, ["unexpected keyword argument 'hiden'", "encoder_config.options"]),
        ("batch_norm", {}, ["has buffers (2.running_mean", "nn.LayerNorm"]),
        ("dropout", {}, ["dropout?", "leave that layer out"]),
        ("frozen", {}, ["1.weight of torch.float32 that is not trained"]),
        ("doubles", {}, ["raised RuntimeError", "expected features for each"]),
        ("other_each_time", {}, ["other weights from the same seed"]),
        ("told", {"how": "tuple"}, ["gave tuple, expected one tensor (batch, features)"]),
        ("told", {"how": "double"}, ["gave numbers of torch.float64, expected torch.float32"]),
        ("told", {"how": "integers"}, ["gave numbers of torch.int64, expected torch.float32"]),
        ("told", {"how": "three axes"}, ["gave shape (5, 4, 1) for 5 observations of (3,), expected (5, features)"]),
        ("told", {"how": "one axis"}, ["gave shape (5,)", "expected (5, features)"]),
        ("told", {"how": "mean"}, ["other outputs beside other samples", "nn.LayerNorm"]),
        ("told", {"how": "noise"}, ["draws random numbers"]),
        ("told", {"how": "functional dropout"}, ["computes something else in training"]),
        ("told", {"how": "infinite"}, ["not finite"]),
        ("told", {"how": "in place"}, ["changes its input in place"]),
        ("told", {"how": "raises"}, ["raised ValueError: no such luck"]),
    ],
)
def test_a_module_that_cannot_be_an_encoder_is_told(function: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        encoder(function, VECTOR, **options)
    said = str(caught.value)
    assert said.startswith("network.encoder_config.module: ") and "\n" not in said
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kind": "torch"}, ["encoder_config.module: None", "package.module:function"]),
        ({"module": "no function"}, ["encoder_config.module: 'no function'"]),
        ({"module": f"{HERE}:scaled", "kind": "mlp"}, ["a key of kind 'torch', not of 'mlp'"]),
        ({"module": f"{HERE}:scaled", "hidden_size": [3]}, ["hidden_size, no key of kind 'torch'"]),
        ({"module": f"{HERE}:scaled", "options": {"hidden": {1: 2}, 3: 4}}, ["Input should be a valid string"]),
        ({"module": f"{HERE}:scaled", "options": {"hidden": float("nan")}}, ["encoder_config.options"]),
        ({"module": "nowhere.at_all:scaled"}, ["nowhere.at_all:scaled does not load", "ModuleNotFoundError"]),
    ],
)
def test_a_configuration_that_names_none_is_told(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(Exception) as caught:
        encoder_of(NetConfig.model_validate({"encoder_config": config}).encoder_config, VECTOR, "encoder_config", "a")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_without_torch_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = encoder("scaled", VECTOR)
    monkeypatch.setattr(trusted_modules, "entry_points", lambda group: ())
    trusted_modules.torch_ops.cache_clear()
    with pytest.raises(ConfigError, match=r"needs torch, which does not load here .*covey-marl\[learner\]"):
        spec.load()
    trusted_modules.torch_ops.cache_clear()
