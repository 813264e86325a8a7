"""docs/images.md says of shapes and sizes what is done."""

from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

from covey.config import NetConfig
from covey.config.encoder_choice import encoder_of
from covey.networks import CNN
from covey.spaces import Box

PAGE = (Path(__file__).parents[2] / "docs" / "images.md").read_text()


def chosen(shape: tuple[int, ...], network: dict[str, object] | None = None) -> CNN:
    width = math.prod(shape)
    space = Box("uint8", shape, (0,) * width, (255,) * width)
    encoder = encoder_of(NetConfig.model_validate(network or {}).encoder_config, space, "network", "an agent")
    assert isinstance(encoder, CNN)
    return encoder


def test_shapes_are_read_as_the_table_says() -> None:
    rows = re.findall(r"^\| (\(\d.*\)) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for shapes, what in rows:
        for numbers in re.findall(r"\(([^)]*)\)", shapes):
            encoder = chosen(tuple(map(int, numbers.split(","))))
            if what.startswith("channels"):
                assert encoder.channels_first == (what == "channels first"), shapes
            else:
                height, width, channels = map(int, re.findall(r"\d+", what))
                assert encoder.image == (height, width, channels)


def test_images_become_as_small_as_the_page_says() -> None:
    pairs = re.findall(r"(\d+) x \d+(?: pixels)? become (\d+) x", " ".join(PAGE.split()))
    assert len(pairs) == 3
    for before, after in pairs:
        assert chosen((int(before), int(before), 1)).windows[-1].rows == int(after)


def test_the_settings_shown_are_those_of_the_largest_frames() -> None:
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "channel_size: [" in block]
    assert chosen((84, 84, 4), yaml.safe_load(shown)["network"]) == chosen((84, 84, 4))
