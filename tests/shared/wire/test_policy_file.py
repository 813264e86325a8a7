"""Policy files: round trip, identity, and everything that is refused."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from covey.errors import ConfigError, CoveyError, DivergedError, RefusedError
from covey.networks import MLP, Input, NetworkSpec, Params
from covey.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space, TupleSpace
from covey.wire.policy_file import MAX_HEADER_BYTES, PolicySpec, decode_policy, encode_policy, policy_sha256

SEEN = Box("float32", (2, 3), (-np.inf,) * 6, (np.inf, 1.0) * 3)
MOVES = Box("float32", (2,), (0.0, 0.0), (1.0, 1.0))


def network(**changes: int) -> NetworkSpec:
    fields = {"outputs": 2, "latent_dim": 8, "extra": 0} | changes
    encoder = MLP(hidden_size=(5, 4), layer_norm=True)
    return NetworkSpec(inputs=(Input("observation", 6, encoder),), head=MLP(hidden_size=(3,)), **fields)


def policy(seed: int = 0) -> tuple[PolicySpec, Params]:
    spec = network()
    return PolicySpec(spec, SEEN, MOVES), spec.init(np.random.default_rng(seed))


def test_round_trip() -> None:
    spec, params = policy()
    data = encode_policy(spec, params)
    again, read = decode_policy(data)
    assert again == spec
    assert list(read) == sorted(params) or set(read) == set(params)
    for name, value in params.items():
        np.testing.assert_array_equal(read[name], value)
    discrete = PolicySpec(network(outputs=4), SEEN, Discrete(4, start=-1))
    data = encode_policy(discrete, discrete.network.init(np.random.default_rng(0)))
    assert decode_policy(data)[0] == discrete


@pytest.mark.parametrize(
    ("action", "head", "indicator", "log_std"),
    [
        (MOVES, "stochastic", 0, -0.5),
        (MOVES, "stochastic", 3, 0.25),
        (MOVES, "deterministic", 2, None),
        (MOVES, "squashed", 0, None),
        (TupleSpace((MOVES, Box("float64", (1,), (0.0,), (np.inf,)))), "squashed", 3, None),
        (MultiDiscrete((2, 3)), "stochastic", 0, None),
        (MultiBinary(4), "stochastic", 0, None),
        (Discrete(3, 5), "stochastic", 0, None),
    ],
)
def test_stochastic_policies_and_indicators(action: Space, head: str, indicator: int, log_std: float | None) -> None:
    net = NetworkSpec(
        inputs=(Input("observation", 6 + indicator, MLP(hidden_size=(5,))),),
        head=MLP(hidden_size=(3,)),
        outputs=action.width * (2 if head == "squashed" else 1),
        log_std=log_std,
    )
    spec = PolicySpec(net, SEEN, action, head, indicator)
    params = net.init(np.random.default_rng(0))
    again, read = decode_policy(encode_policy(spec, params))
    assert again == spec and again.network.log_std == log_std
    assert ("log_std" in read) == (log_std is not None)
    if log_std is not None:
        assert read["log_std"].tolist() == [log_std] * 2


def test_encoded_observations_are_what_networks_read() -> None:
    for observation, width in ((Discrete(7, 2), 7), (MultiDiscrete((2, 3)), 5), (MultiBinary(3), 3)):
        net = NetworkSpec(
            inputs=(Input("observation", width, MLP(hidden_size=(5,))),), head=MLP(hidden_size=(3,)), outputs=2
        )
        spec = PolicySpec(net, observation, MOVES)
        assert decode_policy(encode_policy(spec, net.init(np.random.default_rng(0))))[0] == spec


def test_the_hash_is_that_of_spec_and_weights() -> None:
    assert policy_sha256(encode_policy(*policy())) == policy_sha256(encode_policy(*policy()))
    assert policy_sha256(encode_policy(*policy())) != policy_sha256(encode_policy(*policy(seed=1)))


def test_specs_of_one_architecture_are_one_object() -> None:
    assert decode_policy(encode_policy(*policy(0)))[0] is decode_policy(encode_policy(*policy(1)))[0]


def rewritten(params: Mapping[str, NDArray[Any]], **changes: object) -> bytes:
    """A file with other tensors or metadata than its spec's."""
    header = encode_policy(*policy())
    size = int.from_bytes(header[:8], "little")
    text = json.loads(json.loads(header[8 : 8 + size])["__metadata__"]["covey"])
    return bytes(save(dict(params), metadata={"covey": json.dumps(text | changes)}))


def test_damaged_files_are_refused() -> None:
    spec, params = policy()
    data = encode_policy(spec, params)
    for bad in (
        b"",
        data[:7],
        data[:40],
        data[:-1],
        data + b"x",
        b"\xff" * 100,
        (10).to_bytes(8, "little") + b"x" * 10,
    ):
        with pytest.raises(RefusedError, match=r"^policy file: "):
            decode_policy(bad)


def test_tensors_must_fill_the_file_one_after_the_other() -> None:
    data = encode_policy(*policy())
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    first, second, *_ = (name for name in header if name != "__metadata__")
    for change in (
        lambda h: h[first].update(data_offsets=h[second]["data_offsets"]),
        lambda h: [entry.update(data_offsets=[o + 4 for o in entry["data_offsets"]]) for entry in tensors(h)],
        lambda h: [entry.update(data_offsets=[o + 2 for o in entry["data_offsets"]]) for entry in tensors(h)],
        lambda h: h[first].update(data_offsets=[-4, 0]),
        lambda h: h[first].update(data_offsets="01"),
    ):
        spoiled = copy.deepcopy(header)
        change(spoiled)
        text = json.dumps(spoiled).encode()
        with pytest.raises(RefusedError, match=r"^policy file: "):
            decode_policy(len(text).to_bytes(8, "little") + text + data[8 + size :])


def tensors(header: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of a header that are tensors."""
    return [entry for name, entry in header.items() if name != "__metadata__"]


def test_a_header_is_measured_before_it_is_parsed() -> None:
    many = {f"t{i}": np.empty((0,), np.float32) for i in range(40_000)}
    data = bytes(save(many, metadata={"covey": "{}"}))
    assert int.from_bytes(data[:8], "little") > MAX_HEADER_BYTES
    with pytest.raises(RefusedError, match="header of"):
        decode_policy(data)


def test_tensors_must_be_those_of_the_spec() -> None:
    spec, params = policy()
    name = spec.network.parameters[0].name
    spoiled: list[tuple[Mapping[str, NDArray[Any]], str]] = [
        ({k: v for k, v in params.items() if k != name}, "missing or too many"),
        (params | {"more": np.zeros(2, np.float32)}, "missing or too many"),
        (params | {name: params[name][:-1]}, "expected float32"),
        (params | {name: params[name].astype(np.float64)}, "expected float32"),
    ]
    for tensors, says in spoiled:
        with pytest.raises(RefusedError, match=says):
            decode_policy(rewritten(tensors))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_must_be_finite(value: float) -> None:
    spec, params = policy()
    name = spec.network.parameters[0].name
    with pytest.raises(DivergedError, match="not finite"):
        decode_policy(rewritten(params | {name: np.full_like(params[name], value)}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"head": "magic"}, "head 'magic'"),
        ({"head": "stochastic"}, "expected one for Gaussians alone"),  # without standard deviations
        ({"network": network().to_json() | {"log_std": 0.5}}, "expected one for Gaussians alone"),
        ({"head": "squashed"}, "to 2 outputs, expected one input of 6 and 4 outputs"),
        ({"network": network(outputs=4).to_json()}, "to 4 outputs, expected one input of 6 and 2 outputs"),
        ({"indicator": 2}, "expected one input of 8 and 2 outputs, as the spaces and the indicator of 2"),
        ({"indicator": -1}, "indicator of -1"),
        ({"indicator": 1 << 40}, "indicator of"),
        ({"indicator": "x"}, "policy spec"),
        ({"action": {"kind": "multi_discrete", "nvec": [1 << 40]}}, "."),
        ({"action": {"kind": "multi_binary", "n": -1}}, "."),
        ({"network": network(outputs=3).to_json()}, "expected one input of 6 and 2 outputs"),
        ({"network": network(extra=2).to_json()}, "2 extra inputs"),
        ({"network": network().to_json() | {"latent_dim": 1 << 40}}, "parameters"),
        ({"network": {"inputs": "x"}}, "network spec"),
        ({"observation": {"kind": "box"}}, "policy spec"),
        ({"observation": {"kind": "discrete", "n": 1e300}}, "."),
        ({"action": {"kind": "box", "dtype": "float32", "shape": [-1], "low": [0], "high": [1]}}, "."),
        ({"action": None}, "policy spec"),
    ],
)
def test_specs_that_do_not_hold_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(CoveyError, match=says):
        decode_policy(rewritten(policy()[1], **changes))


def test_metadata_that_is_no_json_object() -> None:
    for text in ("", "[]", "7", "[" * 100_000):
        with pytest.raises(ConfigError, match=re.escape("policy spec")):
            decode_policy(bytes(save(policy()[1], metadata={"covey": text})))
    with pytest.raises(RefusedError, match="'covey' entry"):
        decode_policy(bytes(save(policy()[1], metadata={"other": "{}"})))


def test_gaussians_need_floating_point_actions() -> None:
    net = NetworkSpec(
        inputs=(Input("observation", 6, MLP(hidden_size=(5,))),), head=MLP(hidden_size=(3,)), outputs=2, log_std=0.0
    )
    steps = Box("int8", (2,), (0.0, 0.0), (5.0, 5.0))
    with pytest.raises(ConfigError, match="expected floating-point"):
        PolicySpec(net, SEEN, steps, "stochastic").check()


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (Box("int8", (2,), (0.0, 0.0), (5.0, 5.0)), "expected floating-point"),
        (Discrete(2), "expected Boxes alone"),
        (MultiBinary(2), "expected Boxes alone"),
        (TupleSpace((Box("float32", (1,), (0.0,), (1.0,)), MultiBinary(1))), "expected Boxes alone"),
    ],
)
def test_squashed_policies_need_floating_point_boxes(action: Space, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PolicySpec(network(outputs=4), SEEN, action, "squashed").check()


def test_the_example_of_the_specification_is_what_is_written() -> None:
    page = (Path(__file__).parents[3] / "proto" / "README.md").read_text()
    policies = page[page.index("## Policy files") :]
    text, tensors = re.findall(r"```(?:json)?\n(.*?)```", policies, re.DOTALL)[:2]
    network = NetworkSpec(
        inputs=(Input("observation", 3, MLP(hidden_size=(8, 8), gated=(1,))),),
        head=MLP(hidden_size=(4,), activation="Tanh", layer_norm=True),
        outputs=2,
        latent_dim=8,
        log_std=-0.5,
    )
    spec = PolicySpec(
        network,
        Box("float32", (1,), (-1.0,), (1.0,)),
        Box("float32", (2,), (0.0, 0.0), (1.0, np.inf)),
        "stochastic",
        indicator=2,
    )
    data = encode_policy(spec, network.init(np.random.default_rng(0)))
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    written = json.loads(header.pop("__metadata__")["covey"])
    assert json.loads(text) == written and list(json.loads(text)) == list(written)
    listed = re.findall(r"(\S+) \(([\d, ]+)\)", tensors)
    assert {name: [int(n) for n in shape.split(",")] for name, shape in listed} == {
        n: t["shape"] for n, t in header.items()
    }
    assert decode_policy(data)[0] == spec
