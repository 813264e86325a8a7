"""A residual convolutional network: an encoder of images (He et al., 2016, arXiv 1603.05027)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from covey.errors import ConfigError
from covey.networks.cnn import CNN
from covey.networks.convolution import Window
from covey.networks.images import pixels_of
from covey.networks.labels import Axis, ParamSpec, Segment, axis_width
from covey.networks.ops import Activation, Array, Ops

MAX_BLOCKS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNet:
    """Architecture of a residual convolutional network, in the words of AgileRL's `encoder_config`.

        h = conv(image)                                                channel_size channels, the stream
        h = h + conv_i'(activation(conv_i(activation(h))))             for each block i
        latents = W activation(h) + b

    Its input is an image, and perhaps numbers after it (an agent's one-hot index), which join behind the convolutions.
    Blocks keep the image's size. Their last convolution starts at zero, so that a block changes nothing at first; that
    stands in for batch normalisation, whose statistics neither actors nor packs have.

    Attributes:
        image: Height, width and channels of the image.
        channels_first: Whether the image's numbers come channel by channel, instead of pixel by pixel.
        channel_size: Channels of the stream.
        kernel_size: Rows and columns of all windows, an odd number.
        stride_size: Pixels from one window of the first convolution to the next; in blocks 1.
        block_size: Channels inside of each block, at first `scale_factor` times `channel_size`.
        activation: Of the blocks and of the outputs, one of `covey.networks.ops.ACTIVATIONS`.
        min_hidden_layers: Fewest blocks that mutations leave.
        max_hidden_layers: Most blocks that mutations build.
        min_block_size: Fewest channels inside of a block that mutations leave.
        max_block_size: Most channels inside of a block that mutations build.
    """

    kind: ClassVar[str] = "resnet"
    units: ClassVar[str] = "channel"

    image: tuple[int, int, int]
    channels_first: bool = False
    channel_size: int = 32
    kernel_size: int = 3
    stride_size: int = 1
    block_size: tuple[int, ...] = (128, 128)
    activation: str = "ReLU"
    min_hidden_layers: int = 1
    max_hidden_layers: int = 4
    min_block_size: int = 128
    max_block_size: int = 1024

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.block_size)

    @property
    def numbers(self) -> int:
        """Number of elements of the image."""
        height, width, channels = self.image
        return height * width * channels

    @property
    def gated(self) -> tuple[int, ...]:
        """No gates: a block passes the stream by itself."""
        return ()

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """Fewest channels inside of a block that mutations leave, and most that they build."""
        return self.min_block_size, self.max_block_size

    @property
    def first(self) -> Window:
        """How the windows of the first convolution lie in the image."""
        return Window(self.image[0], self.image[1], self.kernel_size, self.stride_size, self.kernel_size // 2)

    @property
    def inner(self) -> Window:
        """How the windows of the blocks' convolutions lie in the stream, whose size they keep."""
        return Window(self.first.rows, self.first.columns, self.kernel_size, 1, self.kernel_size // 2)

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for networks which can be padded to one architecture: those of as many blocks.

        Channels inside of blocks are padded; depth is not, as a block that only passes its input costs as much as any.
        """
        stream = self.channel_size, self.kernel_size, self.stride_size
        return self.kind, self.image, self.channels_first, *stream, self.layers

    @property
    def repeatable(self) -> bool:
        """Whether blocks that padding adds may have any activation: there are none."""
        return True

    @property
    def parts(self) -> tuple[()]:
        """Encoders inside this one: none."""
        return ()

    def aligned(self, layers: int, gated: tuple[int, ...]) -> ResNet:
        """Return this architecture; networks of one structure have equally many blocks."""
        del gated
        if layers != self.layers:
            raise ValueError(f"{self.layers} blocks cannot be padded to {layers}")
        return self

    def layer_activation(self, layer: int) -> str:
        """Return the activation of a block, which is the same for all."""
        del layer
        return self.activation

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the network's parameters, first layer first; convolutions as those of a CNN.

        Args:
            prefix: Begins the parameters' names.
            source: The axis of inputs: those of the image, and of what else joins behind the convolutions.
            target: The segment of outputs.
            gain: Factor of the last layer's initial weights.
        """
        pixels, cells = self.kernel_size**2, self.first.cells
        stream = Segment(f"{prefix}.stream", self.channel_size)
        read: Axis = (Segment(f"{prefix}.image", self.image[2]),) * pixels
        fan_in = axis_width(read)
        yield ParamSpec(f"{prefix}.in.weight", (read, (stream,)), "uniform", fan_in, inputs=1, products=cells)
        yield ParamSpec(f"{prefix}.in.bias", ((stream,),), "uniform", fan_in)
        for i, size in enumerate(self.block_size):
            units = Segment(f"{prefix}.{i}.units", size)
            fan_in = pixels * self.channel_size
            yield ParamSpec(
                f"{prefix}.{i}.weight",
                ((stream,) * pixels, (units,)),
                "uniform",
                fan_in,
                inputs=1,
                products=cells,
                added="init",
            )
            yield ParamSpec(f"{prefix}.{i}.bias", ((units,),), "uniform", fan_in)
            back: tuple[Axis, Axis] = ((units,) * pixels, (stream,))
            yield ParamSpec(f"{prefix}.{i}.back.weight", back, "zeros", inputs=1, products=cells, added="zeros")
            yield ParamSpec(f"{prefix}.{i}.back.bias", ((stream,),), "zeros")
        beside = Segment(f"{prefix}.beside", axis_width(source) - self.numbers)
        joined: Axis = (*(stream,) * cells, beside)
        fan_in = axis_width(joined)
        yield ParamSpec(f"{prefix}.out.weight", (joined, (target,)), "uniform", fan_in, gain, inputs=1)
        yield ParamSpec(f"{prefix}.out.bias", ((target,),), "uniform", fan_in, gain)

    def apply(
        self,
        ops: Ops,
        params: Mapping[str, Array],
        prefix: str,
        x: Array,
        valid: Mapping[str, Array],
        activations: Mapping[str, Activation],
    ) -> Array:
        """Compute the network for one batch, or for one batch each of K stacked networks.

        B inputs a batch; the last linear layer has no activation after it.

        Args:
            ops: Backend.
            params: Parameters of one network, or packed ones of K networks, by name.
            prefix: Begins the parameters' names.
            x: Inputs, (B, in), or (K, B, in) for a pack: images, and numbers that follow each.
            valid: Not needed, as no layer normalises.
            activations: By block, "<prefix>.<block>", the activations of a pack's networks where they are not all this
                one's.

        Returns:
            (B, out) or (K, B, out).
        """
        del valid
        *lead, batch, _ = x.shape
        y, beside = pixels_of(ops, x, self.image, self.channels_first)

        def convolved(name: str, y: Array, window: Window) -> Array:
            return ops.convolution(y, params[f"{name}.weight"], params[f"{name}.bias"], window)

        stream = convolved(f"{prefix}.in", y, self.first)
        for i in range(self.layers):
            which = activations.get(f"{prefix}.{i}", self.activation)
            y = convolved(f"{prefix}.{i}", ops.activation(which, ops.copy(stream)), self.inner)
            y = convolved(f"{prefix}.{i}.back", ops.activation(which, y), self.inner)
            stream = ops.plus(stream, y)
        y = ops.activation(activations.get(f"{prefix}.{self.layers - 1}", self.activation), stream)
        y = ops.reshape(y, (*lead, batch, self.first.cells * self.channel_size))
        if beside is not None:
            y = ops.concat([y, beside])
        return ops.linear(y, params[f"{prefix}.out.weight"], params[f"{prefix}.out.bias"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the channels inside of each block, which mutations may change, by the label of their units."""
        return {f"{prefix}.{i}.units": size for i, size in enumerate(self.block_size)}

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> ResNet:
        """Return this architecture with other channels for the blocks whose labels are given."""
        return replace(
            self, block_size=tuple(sizes.get(f"{prefix}.{i}.units", size) for i, size in enumerate(self.block_size))
        )

    def with_layer(self) -> ResNet:
        """Return this architecture with one more block at the end, as wide as the last."""
        return replace(self, block_size=(*self.block_size, self.block_size[-1]))

    def without_layer(self) -> ResNet:
        """Return this architecture without its last block."""
        return replace(self, block_size=self.block_size[:-1])

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object with the keys of a configuration, and `kind`, image and blocks."""
        return {
            "kind": self.kind,
            "image": list(self.image),
            "channels_first": self.channels_first,
            "channel_size": self.channel_size,
            "kernel_size": self.kernel_size,
            "stride_size": self.stride_size,
            "block_size": list(self.block_size),
            "activation": self.activation,
            "min_hidden_layers": self.min_hidden_layers,
            "max_hidden_layers": self.max_hidden_layers,
            "min_block_size": self.min_block_size,
            "max_block_size": self.max_block_size,
        }

    def described(self) -> dict[str, Any]:
        """Return what people want to know of the architecture, as JSON."""
        return {
            "kind": self.kind,
            "channel_size": self.channel_size,
            "kernel_size": self.kernel_size,
            "stride_size": self.stride_size,
            "num_blocks": self.layers,
            "block_size": list(self.block_size),
            "activation": self.activation,
        }

    def check(self, what: str, width: int) -> None:
        """Refuse an architecture with fields of wrong types or sizes, as JSON from elsewhere may have them.

        Args:
            what: Names the network in errors.
            width: How many numbers it reads.

        Raises:
            ConfigError: such a field, too many blocks, or what is refused of a CNN with these convolutions.
        """
        numbers = (
            *(self.channel_size, self.kernel_size, self.stride_size, self.min_hidden_layers, self.max_hidden_layers),
            *(self.min_block_size, self.max_block_size),
        )
        if type(self.block_size) is not tuple or any(type(n) is not int for n in (*self.block_size, *numbers)):
            raise ConfigError(f"{what}: block_size {self.block_size}, sizes {numbers}, expected integers")
        if not 1 <= self.layers <= MAX_BLOCKS or self.kernel_size % 2 == 0:
            raise ConfigError(
                f"{what}: {self.layers} blocks of kernel {self.kernel_size}, expected 1 to {MAX_BLOCKS} blocks and an "
                "odd kernel, as blocks keep the image's size"
            )
        count = 1 + 2 * self.layers
        CNN(
            image=self.image,
            channels_first=self.channels_first,
            channel_size=(self.channel_size, *(n for size in self.block_size for n in (size, self.channel_size))),
            kernel_size=(self.kernel_size,) * count,
            stride_size=(self.stride_size, *(1,) * (count - 1)),
            padding=(self.kernel_size // 2,) * count,
        ).check(what, width)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ResNet:
        """Make an architecture from its JSON object; missing keys take their defaults.

        Raises:
            TypeError: an unknown key.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        return ResNet(**fields)
