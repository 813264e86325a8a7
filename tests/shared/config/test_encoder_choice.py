"""Which encoder an observation gets, by what it is and by what the configuration says; what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from covey.config import NetConfig
from covey.config.architecture import flattened_images, resolve
from covey.config.encoder_choice import encoder_of
from covey.config.network import EncoderConfig
from covey.errors import ConfigError
from covey.networks import CNN, MLP, Encoder, MultiInput
from covey.networks.cnn import MAX_KERNEL
from covey.networks.images import image_of
from covey.networks.recurrent import MAX_STATE
from covey.spaces import AgentSpec, Box, DictSpace, Discrete, EnvironmentSpaces, Space, TupleSpace


def pixels(*shape: int, dtype: str = "uint8", high: float = 255.0) -> Box:
    width = int(np.prod(shape))
    return Box(dtype, shape, (0.0,) * width, (high,) * width)


FRAME = pixels(84, 84, 4)
VECTOR = pixels(6, dtype="float32")
CAMERA = DictSpace(
    (("camera", pixels(10, 12, 3)), ("place", VECTOR), ("map", TupleSpace((pixels(5, 5, 1), Discrete(3)))))
)


def chosen(space: Space, config: Any = None, **rest: Any) -> Encoder:
    its = NetConfig.model_validate({"encoder_config": config or {}}).encoder_config
    return encoder_of(its, space, "network.encoder_config", "agent 'a'", **rest)


@pytest.mark.parametrize(
    ("space", "image", "first"),
    [
        (FRAME, (84, 84, 4), False),
        (pixels(4, 84, 84), (84, 84, 4), True),
        (pixels(210, 160, 3), (210, 160, 3), False),
        (pixels(3, 210, 160), (210, 160, 3), True),
        (pixels(8, 8, 111, dtype="bool"), None, False),
        (pixels(8, 8, 111, dtype="float32"), (8, 8, 111), False),  # chess: more planes than rows
        (pixels(17, 9, 9), (9, 9, 17), True),
        (pixels(6, 7, 2, dtype="int8"), (6, 7, 2), False),
        (pixels(7, 7, 7), (7, 7, 7), False),
        (pixels(16, 20), (16, 20, 1), False),
        (pixels(27, 5, dtype="float64"), None, False),  # a table
        (pixels(16, 20, dtype="float32"), None, False),
        (pixels(3, 3, 2), None, False),
        (VECTOR, None, False),
        (Discrete(9), None, False),
        (pixels(2, 2, 2, 2), None, False),
    ],
)
def test_images_are_found_by_their_axes(space: Space, image: Any, first: bool) -> None:
    encoder = chosen(space)
    if image is None:
        assert encoder == MLP()
    else:
        assert isinstance(encoder, CNN) and (encoder.image, encoder.channels_first) == (image, first)
        encoder.check("encoder", space.width)


def test_where_channels_are_may_be_said() -> None:
    encoder = chosen(pixels(7, 7, 7), {"channels": "first"})
    assert isinstance(encoder, CNN) and encoder.channels_first
    small = chosen(pixels(3, 3, 2), {"kind": "cnn"})
    assert isinstance(small, CNN) and small.kernel_size == (3, 1)
    table = chosen(pixels(27, 5, dtype="float64"), {"arch": "cnn", "channel_size": [16]})
    assert isinstance(table, CNN) and table.image == (27, 5, 1)


@pytest.mark.parametrize(
    ("shape", "kernels", "strides"),
    [
        ((84, 84, 4), (8, 4), (4, 2)),
        ((42, 42, 1), (8, 3), (4, 1)),
        ((24, 24, 1), (4, 3), (2, 1)),
        ((10, 10, 5), (3, 3), (1, 1)),
        ((5, 9, 2), (3, 3), (1, 1)),
    ],
)
def test_layers_that_are_not_given_are_sized_to_the_image(shape: tuple[int, ...], kernels: Any, strides: Any) -> None:
    encoder = chosen(pixels(*shape))
    assert isinstance(encoder, CNN) and encoder.channel_size == (32, 32)
    assert (encoder.kernel_size, encoder.stride_size) == (kernels, strides)
    encoder.check("encoder", int(np.prod(shape)))
    deeper = chosen(pixels(*shape), {"channel_size": [16, 16, 16], "max_hidden_layers": 4})
    assert isinstance(deeper, CNN) and len(deeper.kernel_size) == 3 and deeper.max_hidden_layers == 4
    deeper.check("encoder", int(np.prod(shape)))


def test_keys_decide_on_the_kind() -> None:
    flat = chosen(FRAME, {"hidden_size": [32, 32]})
    assert flat == MLP(hidden_size=(32, 32))
    assert isinstance(chosen(FRAME, {"activation": "Tanh", "layer_norm": False}), CNN)
    assert isinstance(chosen(VECTOR, {"activation": "Tanh"}), MLP)
    assert isinstance(chosen(FRAME, {"kind": "mlp"}), MLP)


def test_dictionaries_and_tuples_with_images_get_an_encoder_for_each() -> None:
    encoder = chosen(CAMERA, {"hidden_size": [9], "channel_size": [8]})
    assert isinstance(encoder, MultiInput)
    assert [(part.name, part.start, part.encoder.image) for part in encoder.images] == [
        ("camera", 0, (10, 12, 3)),
        ("map.0", 366, (5, 5, 1)),
    ]
    assert encoder.vector == MLP(hidden_size=(9,))
    encoder.check("encoder", CAMERA.width)
    # Nothing but images: a vector only for an agent's index behind them.
    alone = DictSpace((("camera", pixels(10, 12, 3)),))
    bare, indexed = chosen(alone), chosen(alone, beside=2)
    assert isinstance(bare, MultiInput) and bare.vector is None
    assert isinstance(indexed, MultiInput) and indexed.vector is not None
    assert chosen(DictSpace((("place", VECTOR), ("goal", Discrete(4))))) == MLP()
    manifest = chosen(CAMERA, {"cnn_config": {"channel_size": [16]}, "mlp_config": {"hidden_size": [5]}})
    assert isinstance(manifest, MultiInput) and manifest.vector == MLP(hidden_size=(5,))


@pytest.mark.parametrize(
    ("space", "config", "words"),
    [
        (FRAME, {"kernel_size": [99]}, ["kernel_size: 99 in layer 0", "at most 84", "84 x 84 pixels"]),
        (pixels(10, 10, 3), {"kernel_size": [8, 4], "stride_size": [4, 2]}, ["4 in layer 1", "at most 1", "'a'"]),
        (FRAME, {"kernel_size": [3], "stride_size": [1, 1]}, ["kernel_size of 1", "stride_size of 2"]),
        (FRAME, {"kernel_size": [3], "hidden_size": [8]}, ["hidden_size of an MLP and kernel_size of a CNN"]),
        (FRAME, {"kind": "cnn", "layer_norm": True}, ["layer_norm, no key of kind 'cnn'"]),
        (FRAME, {"kind": "mlp", "channel_size": [8]}, ["channel_size, no key of kind 'mlp'"]),
        (VECTOR, {"channel_size": [8]}, ["channel_size", "agent 'a'", "expected an image"]),
        (Discrete(4), {"kind": "cnn"}, ["kind 'cnn'", "agent 'a'", "expected an image"]),
        (VECTOR, {"kind": "multi_input"}, ["'multi_input'", "agent 'a'", "dictionary or tuple"]),
        (FRAME, {"kind": "cnn", "options": {"depth": 3}}, ["options", "not for 'cnn'"]),
        (FRAME, {"kind": "spinning"}, ["'spinning'", "cnn, mlp, multi_input"]),
    ],
)
def test_what_does_not_fit_is_refused_by_the_agents_name(space: Space, config: Any, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        chosen(space, config)
    assert all(word in str(error.value) for word in words), error.value


def test_one_block_serves_agents_of_several_kinds_if_it_fits_all() -> None:
    spaces = EnvironmentSpaces.build(
        [AgentSpec("viewer_0", FRAME, Discrete(2)), AgentSpec("listener_0", VECTOR, Discrete(2))]
    )
    resolve({"encoder_config": {"activation": "Tanh"}}, spaces, False)
    with pytest.raises(ConfigError, match=r"network\.encoder_config: channel_size, but agent 'listener_0'"):
        resolve({"encoder_config": {"channel_size": [8, 8]}}, spaces, False)
    by_agent = {"viewer_0": {"encoder_config": {"channel_size": [8, 8]}}}
    made = resolve(by_agent, spaces, False)
    assert flattened_images(made, spaces, False) == []
    with pytest.raises(ConfigError, match=r"network\.listener_0\.encoder_config"):
        resolve({"listener_0": by_agent["viewer_0"]}, spaces, False)


def test_a_flattened_image_is_told() -> None:
    spaces = EnvironmentSpaces.build(
        [AgentSpec("viewer_0", FRAME, Discrete(2)), AgentSpec("other_0", CAMERA, Discrete(2))]
    )
    made = resolve({"encoder_config": {"kind": "mlp"}}, spaces, True)
    first, second = flattened_images(made, spaces, True)
    assert "viewer" in first and "84 x 84 pixels of 4 channels" in first
    assert "other" in second and "10 x 12 pixels of 3 channels" in second


def test_an_array_without_pixels_is_no_image() -> None:
    assert image_of(pixels(0, 4, 3)) is None


def test_parts_that_contradict_each_other_are_refused() -> None:
    both = {"cnn_config": {"activation": "ReLU"}, "mlp_config": {"activation": "Tanh"}}
    with pytest.raises(ValueError, match=r"mlp_config\.activation 'Tanh' beside 'ReLU'"):
        EncoderConfig.model_validate(both)


def test_the_largest_kernel_that_may_be_written_is_the_largest_that_a_network_may_have() -> None:
    assert EncoderConfig(kernel_size=[MAX_KERNEL]).kernel_size == [MAX_KERNEL]
    with pytest.raises(ValueError, match=f"expected numbers from 1 to {MAX_KERNEL}"):
        EncoderConfig(kernel_size=[MAX_KERNEL + 1])


def test_the_largest_memory_that_may_be_written_is_the_largest_that_a_network_may_have() -> None:
    assert EncoderConfig(recurrent=True, hidden_state_size=MAX_STATE).hidden_state_size == MAX_STATE
    with pytest.raises(ValueError, match=f"less than or equal to {MAX_STATE}"):
        EncoderConfig(recurrent=True, hidden_state_size=MAX_STATE + 1)
