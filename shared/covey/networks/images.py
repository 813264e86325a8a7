"""Finds images among observations, and sizes a CNN to an image.

An image is a Box of two axes (height, width), or of three: (height, width, channels) or (channels, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from covey.errors import ConfigError
from covey.networks.convolution import Window
from covey.networks.ops import Array, Ops
from covey.spaces import Box, Space, has_channels_first

Channels = Literal["first", "last"]

SMALLEST_SIDE = 5
"""Pixels of a side below which an array of three axes is not taken for an image unless the configuration says so."""

SMALLEST_SIDE_OF_TWO = 8
"""The same for arrays of two axes, which are often tables."""

CHANNEL_SIZE = 32
LAYERS = 2


@dataclass(frozen=True, slots=True)
class Image:
    """Sizes of an image, and whether its numbers come channel by channel instead of pixel by pixel."""

    height: int
    width: int
    channels: int
    channels_first: bool

    def __str__(self) -> str:
        return f"{self.height} x {self.width} pixels of {self.channels} channel{'s' * (self.channels > 1)}"


def image_of(space: Space, channels: Channels | None = None, frames: int = 1) -> Image | None:
    """Return the sizes of the image that a space's values can be read as; None if they are no array of pixels.

    Of a stack of frames, channels are those of all frames, joined as `covey.spaces.join_frames` does.

    Where it is not said on which axis the channels are: two neighbouring axes of one length are height and width, else
    the shortest of the first and the last axis has the channels, the last one in doubt.

    Args:
        space: The space.
        channels: Whether channels are the first or the last of three axes; None: by their sizes.
        frames: How many values of the space are stacked.
    """
    if not isinstance(space, Box) or np.dtype(space.dtype).kind not in "iuf" or min(space.shape, default=0) < 1:
        return None
    match space.shape:
        case (height, width):
            return Image(height, width, frames, channels_first=frames > 1)
        case (a, b, c):
            first = has_channels_first((a, b, c)) if channels is None else channels == "first"
            if first:
                return Image(b, c, frames * a, channels_first=True)
            return Image(a, b, frames * c, channels_first=False)
    return None


def is_image(space: Space) -> bool:
    """Whether a space's values are taken for images where the configuration does not say what they are.

    Three axes are, from 5 x 5 pixels on; two are if they hold integers, from 8 x 8 on: tables of floating-point numbers
    have two axes as well.
    """
    image = image_of(space)
    if image is None or not isinstance(space, Box):
        return False
    side = min(image.height, image.width)
    if len(space.shape) == 2:
        return side >= SMALLEST_SIDE_OF_TWO and np.dtype(space.dtype).kind in "iu"
    return side >= SMALLEST_SIDE


def sized(
    image: Image,
    channel_size: Sequence[int] | None,
    kernel_size: Sequence[int] | None,
    stride_size: Sequence[int] | None,
    where: str,
    whose: str,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the channels, kernels and strides of a CNN's layers: those given, the others sized to the image.

    A kernel that is not given is 8 where at least 36 pixels are left of the shorter side, 4 from 12 on, else 3, or what
    is left; a stride that is not given is half the kernel, 1 for kernels below 4.

    Args:
        image: The image.
        channel_size: Channels of each layer; None: 32.
        kernel_size: Kernel of each layer.
        stride_size: Stride of each layer.
        where: Dotted path of the encoder's configuration, for errors.
        whose: Whose observation it is, for errors.

    Raises:
        ConfigError: lists of different lengths, or a kernel that is larger than what it reads.
    """
    given = {"channel_size": channel_size, "kernel_size": kernel_size, "stride_size": stride_size}
    lengths = {key: len(its) for key, its in given.items() if its is not None}
    if len(set(lengths.values())) > 1:
        told = " and ".join(f"{key} of {n}" for key, n in lengths.items())
        raise ConfigError(f"{where}: {told} layers, expected as many in each; give every layer's numbers")
    layers = next(iter(lengths.values()), LAYERS)
    kernels: list[int] = []
    strides: list[int] = []
    height, width = image.height, image.width
    for layer in range(layers):
        side = min(height, width)
        kernel = kernel_size[layer] if kernel_size is not None else _kernel(side)
        stride = stride_size[layer] if stride_size is not None else max(1, kernel // 2) if kernel > 3 else 1
        if kernel > side:
            raise ConfigError(
                f"{where}.kernel_size: {kernel} in layer {layer}, expected at most {side}: of {whose}, images of "
                f"{image}, {height} x {width} pixels are left there; choose smaller kernels or strides, or fewer layers"
            )
        window = Window(height, width, kernel, stride)
        kernels.append(kernel)
        strides.append(stride)
        height, width = window.rows, window.columns
    channels = tuple(channel_size) if channel_size is not None else (CHANNEL_SIZE,) * layers
    return channels, tuple(kernels), tuple(strides)


def _kernel(side: int) -> int:
    """Return the kernel of a layer that reads images whose shorter side has so many pixels."""
    return 8 if side >= 36 else 4 if side >= 12 else min(3, side)


def pixels_of(ops: Ops, x: Array, image: tuple[int, int, int], channels_first: bool) -> tuple[Array, Array | None]:
    """Split what a convolutional encoder reads into the pixels of its images and the numbers that follow each image.

    Args:
        ops: Backend.
        x: (..., B, numbers of an image and of what follows).
        image: Height, width and channels.
        channels_first: Whether the numbers of an image come channel by channel.

    Returns:
        The pixels, (..., B * height * width, channels), and what follows, (..., B, rest), or None.
    """
    *lead, batch, width = x.shape
    numbers = math.prod(image)
    beside = None if width == numbers else ops.columns(x, numbers, width)
    y = x if beside is None else ops.columns(x, 0, numbers)
    if channels_first and image[2] > 1:
        y = ops.channels_last(y, image[2])
    return ops.reshape(y, (*lead, batch * image[0] * image[1], image[2])), beside
