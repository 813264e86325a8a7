"""Encoders with memory: by the formula, in numpy as in torch, padded, described, resized."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from covey.acting.tape import Tape
from covey.config import NetConfig
from covey.config.encoder_choice import encoder_of, policy_encoder_of
from covey.errors import ConfigError
from covey.networks import CNN, MLP, Input, MultiInput, NetworkSpec, NumpyOps, Recurrent
from covey.networks.pack import PackLayout
from covey.networks.recurrent import MEMORY
from covey.networks.resize import grow, keep, shrink, subnetwork_names
from covey.spaces import Box, DictSpace
from covey_server.packing.torch_ops import TorchOps

RNG = np.random.default_rng(3)
IMAGE = Box("uint8", (6, 6, 2), (0.0,) * 72, (255.0,) * 72)
VECTOR = Box("float32", (3,), (-1.0,) * 3, (1.0,) * 3)


def spec(state: int, encoder: Any = None, width: int = 5, latent: int = 8) -> NetworkSpec:
    own = Recurrent(encoder=encoder or MLP(hidden_size=(12,)), hidden_state_size=state, activation="Tanh")
    return NetworkSpec(
        inputs=(Input("observation", width, own),), head=MLP(hidden_size=(16,)), outputs=3, latent_dim=latent
    )


def play(own: NetworkSpec, params: Any, xs: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Outputs (T, B, outputs) of T decisions from nothing, and the last states."""
    state, outputs = np.zeros((xs.shape[1], own.state_size), np.float32), []
    for x in xs:
        y, state = own.step(NumpyOps(), params, x.copy(), state)
        outputs.append(y)
    return np.array(outputs), state


def test_one_step_is_that_of_the_specification() -> None:
    own = spec(4)
    p = own.init(RNG)
    x, h = RNG.normal(size=(2, 5)).astype(np.float32), RNG.uniform(-1, 1, (2, 4)).astype(np.float32)
    at = "encoder.observation"

    def linear(name: str, v: NDArray[Any]) -> NDArray[Any]:
        y: NDArray[Any] = v @ p[f"{name}.weight"] + p[f"{name}.bias"]
        return y

    def sigmoid(v: NDArray[Any]) -> NDArray[Any]:
        y: NDArray[Any] = 1 / (1 + np.exp(-v))
        return y

    v = np.maximum(linear(f"{at}.read.out", np.maximum(linear(f"{at}.read.0", x), 0)), 0)
    (ar, az, an), (br, bz, bn) = (
        np.split(linear(f"{at}.memory.{name}", v), 3, axis=1) for name, v in (("input", v), ("state", h))
    )
    r, z = sigmoid(ar + br), sigmoid(az + bz)
    n = np.tanh(an + r * bn)
    after = n + z * (h - n)
    hidden = np.maximum(linear("head.0", np.tanh(linear(f"{at}.out", after))), 0)
    y, state = own.step(NumpyOps(), p, x.copy(), h)
    np.testing.assert_allclose(state, after, atol=1e-6)
    np.testing.assert_allclose(y, linear("head.out", hidden), atol=1e-6)
    # torch's own cell, whose weights are (outputs, inputs), with the gates in the same sequence.
    cell = torch.nn.GRUCell(8, 4)
    for theirs, ours in (("ih", "input"), ("hh", "state")):
        getattr(cell, f"weight_{theirs}").data = torch.from_numpy(p[f"{at}.memory.{ours}.weight"].T.copy())
        getattr(cell, f"bias_{theirs}").data = torch.from_numpy(p[f"{at}.memory.{ours}.bias"])
    with torch.no_grad():
        found = cell(torch.from_numpy(v), torch.from_numpy(h)).numpy()
    np.testing.assert_allclose(state, found, atol=1e-6)


ENCODERS = {
    "mlp": (MLP(hidden_size=(12, 12), gated=(1,)), 5),
    "cnn": (encoder_of(NetConfig().encoder_config, IMAGE, "network", "a"), IMAGE.width),
    "multi_input": (
        encoder_of(NetConfig().encoder_config, DictSpace((("eye", IMAGE), ("ear", VECTOR))), "network", "a"),
        IMAGE.width + 3,
    ),
}


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_packs_of_several_widths_give_what_each_gives_by_itself_in_numpy_torch_and_on_tape(kind: str) -> None:
    encoder, width = ENCODERS[kind]
    assert isinstance(encoder, MLP | CNN | MultiInput)
    specs = (spec(6, encoder, width), spec(20, encoder, width, latent=11))
    assert all(NetworkSpec.from_json(own.to_json()) == own for own in specs)
    params = [own.init(RNG) for own in specs]
    layout = PackLayout(specs)
    views, valid, activations = layout.views(layout.pack(params)), layout.valid(), layout.activations(range(2))
    x, state = np.zeros((2, 4, width), np.float32), np.zeros((2, 4, 20), np.float32)
    tape = Tape()
    on_tape, after_tape = layout.padded.step(tape, views, x, state, valid=valid, activations=activations)
    alone = [np.zeros((4, own.state_size), np.float32) for own in specs]
    for _ in range(4):
        x[...] = RNG.uniform(-1, 1, x.shape)
        tape.replay()
        by_torch = layout.padded.step(
            TorchOps(),
            {k: torch.from_numpy(v if v.ndim > 2 else v[:, None]) for k, v in views.items()},
            torch.from_numpy(x.copy()),
            torch.from_numpy(state),
            valid={k: torch.from_numpy(v) for k, v in valid.items()},
            activations=activations,
        )
        np.testing.assert_allclose(by_torch[0].numpy(), on_tape, atol=1e-5)
        np.testing.assert_allclose(by_torch[1].numpy(), after_tape, atol=1e-6)
        state[...] = after_tape
        for k, (own, its) in enumerate(zip(specs, params, strict=True)):
            y, alone[k] = own.step(NumpyOps(), its, x[k].copy(), alone[k])
            np.testing.assert_allclose(on_tape[k], y, atol=1e-5)
            np.testing.assert_allclose(state[k, :, : own.state_size], alone[k], atol=1e-6)
            assert not state[k, :, own.state_size :].any(), "padding remembers nothing"


def test_more_units_change_no_output_over_whole_episodes_and_fewer_do() -> None:
    own = spec(16)
    params = own.init(RNG)
    xs = RNG.normal(size=(9, 3, 5)).astype(np.float32)
    before, _ = play(own, params, xs)
    grown = grow(own, MEMORY, 16, RNG)
    after, state = play(grown.spec, grown.weights(params), xs)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert grown.spec.state_size == 32 and np.abs(state[:, 16:]).min() > 0, "new units work, though nobody reads them"
    smaller = shrink(own, MEMORY, 8, params)
    less, _ = play(smaller.spec, smaller.weights(params), xs)
    assert smaller.spec.state_size == 8 and np.abs(less - before).max() > 1e-3
    # What grew is of least contribution, so that removing it again gives back what there was.
    again = shrink(grown.spec, MEMORY, 16, grown.weights(params))
    np.testing.assert_allclose(play(again.spec, again.weights(grown.weights(params)), xs)[0], after, atol=1e-6)


def test_a_value_network_that_reads_the_state_grows_and_shrinks_with_it() -> None:
    value = NetworkSpec(inputs=(Input("observation", 5, MLP()),), head=MLP(), outputs=1, reads_memory=6)
    assert NetworkSpec.from_json(value.to_json()) == value and value.sizes[MEMORY] == 6
    params = value.init(RNG)
    x, state = RNG.normal(size=(4, 5)).astype(np.float32), RNG.uniform(-1, 1, (4, 10)).astype(np.float32)
    before = value.apply(NumpyOps(), params, [x.copy()], memory=state[:, :6])
    grown = grow(value, MEMORY, 4, RNG)
    np.testing.assert_allclose(
        grown.spec.apply(NumpyOps(), grown.weights(params), [x.copy()], memory=state), before, atol=1e-6
    )
    less = keep(value, MEMORY, np.array([0, 5]))
    blind = {**params, "head.0.weight": params["head.0.weight"].copy()}
    blind["head.0.weight"][-5:-1] = 0  # the four units between
    np.testing.assert_allclose(
        less.spec.apply(NumpyOps(), less.weights(params), [x.copy()], memory=state[:, [0, 5]]),
        value.apply(NumpyOps(), blind, [x.copy()], memory=state[:, :6]),
        atol=1e-6,
    )


def test_parts_are_found_at_any_depth() -> None:
    encoder, width = ENCODERS["multi_input"]
    names = subnetwork_names(spec(6, encoder, width))
    at = "encoder.observation"
    assert names == (at, f"{at}.read", f"{at}.read.image_0", f"{at}.read.vector", "head")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_state_size": 0}, "expected integers from 1 to 4096"),
        ({"hidden_state_size": 5000}, "expected integers from 1 to 4096"),
        ({"hidden_state_size": 2.5}, "expected integers from 1 to 4096"),
        ({"encoder": {"kind": "recurrent"}}, "memory within memory"),
        ({"encoder": {"kind": "nobody's"}}, "encoder kind"),
        ({"encoder": {"kind": "mlp", "activation": "Loud"}}, "activation 'Loud'"),
        ({"surprise": 1}, "expected a spec as to_json gives it"),
    ],
)
def test_descriptions_from_elsewhere_that_make_no_sense_are_refused(change: dict[str, Any], said: str) -> None:
    data = spec(6).to_json()
    data["inputs"][0]["encoder"] |= change
    with pytest.raises(ConfigError, match=said):
        NetworkSpec.from_json(data)


@pytest.mark.parametrize("change", [{"extra": 2}, {"reads_memory": 3}])
def test_memory_stands_alone(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="memory"):
        replace(spec(6), **change).check()  # type: ignore[arg-type]


def test_the_configuration_puts_memory_behind_the_encoder_that_there_is_anyway() -> None:
    given = {"encoder_config": {"recurrent": True, "hidden_state_size": 24, "activation": "Tanh"}}
    config = NetConfig.model_validate(given).encoder_config
    encoder = encoder_of(config, IMAGE, "network", "a")
    made = policy_encoder_of(config, encoder)
    assert made == Recurrent(encoder=encoder, hidden_state_size=24, activation="Tanh") and isinstance(encoder, CNN)
    plain = NetConfig().encoder_config
    assert policy_encoder_of(plain, encoder) is encoder
    with pytest.raises(ValueError, match="hidden_state_size: for policies with memory, expected recurrent: true"):
        NetConfig.model_validate({"encoder_config": {"hidden_state_size": 24}})
    kind = NetConfig.model_validate({"encoder_config": {"kind": "recurrent"}}).encoder_config
    with pytest.raises(ConfigError, match="say recurrent: true too"):
        encoder_of(kind, IMAGE, "network.encoder_config", "a")
