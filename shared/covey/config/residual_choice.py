"""Residual encoders, SimBa and ResNet, as their configurations describe them."""

from __future__ import annotations

from collections.abc import Sequence

from covey.config.network import EncoderConfig
from covey.errors import ConfigError
from covey.networks.images import Image
from covey.networks.resnet import MAX_BLOCKS, ResNet
from covey.networks.simba import SimBa

BLOCK_KEYS = frozenset({"num_blocks", "scale_factor", "min_blocks", "max_blocks"})
"""Keys of residual encoders alone."""

SIMBA_KEYS = BLOCK_KEYS | {"hidden_size", "min_mlp_nodes", "max_mlp_nodes"}
RESNET_KEYS = BLOCK_KEYS | {
    *("channel_size", "kernel_size", "stride_size", "min_channel_size", "max_channel_size", "channels"),
}


def simba(config: EncoderConfig, where: str) -> SimBa:
    """Return the SimBa encoder that a configuration describes.

    Args:
        config: The encoder's configuration, whose keys are those of this kind.
        where: Dotted path of it, for errors.

    Raises:
        ConfigError: several sizes where one is for all blocks.
    """
    size = _one(config.hidden_size if "hidden_size" in config.model_fields_set else [128], f"{where}.hidden_size")
    return SimBa(
        hidden_size=size,
        block_size=(config.scale_factor * size,) * config.num_blocks,
        activation=config.activation,
        min_hidden_layers=config.min_blocks,
        max_hidden_layers=config.max_blocks,
        min_block_size=config.scale_factor * config.min_mlp_nodes,
        max_block_size=config.scale_factor * config.max_mlp_nodes,
    )


def resnet(config: EncoderConfig, image: Image, where: str, whose: str, width: int) -> ResNet:
    """Return the ResNet encoder that a configuration describes.

    Args:
        config: The encoder's configuration, whose keys are those of this kind.
        image: The image that it reads.
        where: Dotted path of the configuration, for errors.
        whose: Whose observation it is, for errors.
        width: How many numbers it reads, those behind the image included.

    Raises:
        ConfigError: several sizes where one is for all blocks, an even kernel, or too many blocks.
    """
    kernel = _one(config.kernel_size or [3], f"{where}.kernel_size")
    if kernel % 2 == 0:
        raise ConfigError(
            f"{where}.kernel_size: {kernel}, expected an odd number, as blocks keep the image's size; write "
            f"{kernel - 1} or {kernel + 1}"
        )
    if max(config.num_blocks, config.max_blocks) > MAX_BLOCKS:
        raise ConfigError(
            f"{where}: {config.num_blocks} blocks and at most {config.max_blocks}, expected at most {MAX_BLOCKS} of "
            "kind 'resnet'; lower num_blocks or max_blocks"
        )
    size = _one(config.channel_size or [32], f"{where}.channel_size")
    least = config.min_channel_size if "min_channel_size" in config.model_fields_set else 32
    made = ResNet(
        image=(image.height, image.width, image.channels),
        channels_first=image.channels_first,
        channel_size=size,
        kernel_size=kernel,
        stride_size=_one(config.stride_size or [1], f"{where}.stride_size"),
        block_size=(config.scale_factor * size,) * config.num_blocks,
        activation=config.activation,
        min_hidden_layers=config.min_blocks,
        max_hidden_layers=config.max_blocks,
        min_block_size=config.scale_factor * least,
        max_block_size=config.scale_factor * config.max_channel_size,
    )
    made.check(f"{where} of {whose}", width)
    return made


def _one(sizes: Sequence[int], where: str) -> int:
    """Return the one number of a list.

    Raises:
        ConfigError: it has several, or none.
    """
    if len(sizes) != 1:
        raise ConfigError(f"{where}: {list(sizes)}, expected one number, which is that of all blocks")
    return sizes[0]
