"""The convolutional network: the encoder of observations that are one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from covey.errors import ConfigError
from covey.networks.convolution import Window
from covey.networks.images import pixels_of
from covey.networks.labels import Axis, ParamSpec, Segment, axis_width
from covey.networks.ops import IDEMPOTENT, Activation, Array, Ops

MAX_LAYERS = 16
MAX_KERNEL = 255
"""Most pixels of a window, each way."""

MAX_GATHERED = 1 << 26
"""Most numbers of all windows of one image together: an actor copies them before it multiplies."""

MAX_CELLS = 1 << 20
"""Most pixels of an image, and of what a layer makes of it: a description names each on its axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CNN:
    """Architecture of a convolutional network, in the words of AgileRL's `encoder_config`.

    Its input is an image, and perhaps numbers after it (an agent's one-hot index), which join behind the convolutions.
    A gated layer gives y + gate * (activation(y) - y), as in an MLP, so that evolution can insert one without a change
    of the network's function.

    Attributes:
        image: Height, width and channels of the image.
        channels_first: Whether the image's numbers come channel by channel, instead of pixel by pixel.
        channel_size: Channels that each layer gives.
        kernel_size: Rows and columns of each layer's windows.
        stride_size: Pixels from one window to the next.
        padding: Zeros around what each layer reads; a negative number leaves pixels at the edges out. Mutations of
            kernels change it, so that windows stay where they are.
        activation: Of the layers, one of `covey.networks.ops.ACTIVATIONS`.
        min_hidden_layers: Fewest layers that mutations leave.
        max_hidden_layers: Most layers that mutations build.
        min_channel_size: Fewest channels of a layer that mutations leave.
        max_channel_size: Most channels of a layer that mutations build.
        gated: Indices of the gated layers.
    """

    kind: ClassVar[str] = "cnn"
    units: ClassVar[str] = "channel"

    image: tuple[int, int, int]
    channels_first: bool = False
    channel_size: tuple[int, ...] = (32, 32)
    kernel_size: tuple[int, ...] = (3, 3)
    stride_size: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    activation: str = "ReLU"
    min_hidden_layers: int = 1
    max_hidden_layers: int = 6
    min_channel_size: int = 16
    max_channel_size: int = 256
    gated: tuple[int, ...] = ()

    @property
    def layers(self) -> int:
        """Number of convolutional layers."""
        return len(self.channel_size)

    @property
    def numbers(self) -> int:
        """Number of elements of the image."""
        height, width, channels = self.image
        return height * width * channels

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """Fewest channels of a layer that mutations leave, and most that they build."""
        return self.min_channel_size, self.max_channel_size

    @property
    def windows(self) -> tuple[Window, ...]:
        """How the windows of each layer lie in what the layer reads."""
        result: list[Window] = []
        height, width, _ = self.image
        for kernel, stride, padding in zip(self.kernel_size, self.stride_size, self.padding, strict=True):
            result.append(Window(height, width, kernel, stride, padding))
            height, width = result[-1].rows, result[-1].columns
        return tuple(result)

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for networks which can be padded to one architecture: those whose windows are equal.

        Channels are padded; depth is not, as a convolution that only passes its input costs as much as any other.
        """
        return self.kind, self.image, self.channels_first, self.kernel_size, self.stride_size, self.padding

    @property
    def repeatable(self) -> bool:
        """Whether the activation, applied once more to the last layer's output, would change nothing."""
        return self.activation in IDEMPOTENT and self.layers - 1 not in self.gated

    @property
    def parts(self) -> tuple[()]:
        """Encoders inside this one: none."""
        return ()

    def aligned(self, layers: int, gated: tuple[int, ...]) -> CNN:
        """Return this architecture with more gates; networks of one structure have equally many layers."""
        if layers != self.layers:
            raise ValueError(f"{self.layers} convolutions cannot be padded to {layers}")
        return replace(self, gated=gated)

    def layer_activation(self, layer: int) -> str:
        """Return the activation of a layer, which is the same for all."""
        del layer
        return self.activation

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the network's parameters, first layer first.

        The weights of a layer have an input for every pixel of its window and channel of the layer before, pixels in
        rows; so has the last layer for every pixel of the last convolution.

        Args:
            prefix: Begins the parameters' names.
            source: The axis of inputs: those of the image, and of what else joins behind the convolutions.
            target: The segment of outputs.
            gain: Factor of the last layer's initial weights.
        """
        segment = Segment(f"{prefix}.image", self.image[2])
        cells = self.image[0] * self.image[1]
        for i, (size, window) in enumerate(zip(self.channel_size, self.windows, strict=True)):
            pixels: Axis = (segment,) * window.kernel**2
            fan_in = axis_width(pixels)
            segment, cells = Segment(f"{prefix}.{i}.units", size), window.cells
            yield ParamSpec(f"{prefix}.{i}.weight", (pixels, (segment,)), "uniform", fan_in, inputs=1, products=cells)
            yield ParamSpec(f"{prefix}.{i}.bias", ((segment,),), "uniform", fan_in)
            if i in self.gated:
                yield ParamSpec(f"{prefix}.{i}.gate", ((segment,),), "ones")
        beside = Segment(f"{prefix}.beside", axis_width(source) - self.numbers)
        joined: Axis = (*(segment,) * cells, beside)
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
            activations: By layer, "<prefix>.<layer>", the activations of a pack's networks where they are not all this
                one's.

        Returns:
            (B, out) or (K, B, out).
        """
        del valid
        *lead, batch, _ = x.shape
        y, beside = pixels_of(ops, x, self.image, self.channels_first)
        for i, window in enumerate(self.windows):
            y = ops.convolution(y, params[f"{prefix}.{i}.weight"], params[f"{prefix}.{i}.bias"], window)
            which = activations.get(f"{prefix}.{i}", self.activation)
            y = ops.gated(which, params[f"{prefix}.{i}.gate"], y) if i in self.gated else ops.activation(which, y)
        y = ops.reshape(y, (*lead, batch, y.shape[-2] // batch * y.shape[-1]))
        if beside is not None:
            y = ops.concat([y, beside])
        return ops.linear(y, params[f"{prefix}.out.weight"], params[f"{prefix}.out.bias"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the channels of each layer, which mutations may change, by the label of their units."""
        return {f"{prefix}.{i}.units": size for i, size in enumerate(self.channel_size)}

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> CNN:
        """Return this architecture with other channels for the layers whose labels are given."""
        return replace(
            self,
            channel_size=tuple(sizes.get(f"{prefix}.{i}.units", size) for i, size in enumerate(self.channel_size)),
        )

    def with_layer(self) -> CNN:
        """Return this architecture with one more layer at the end, which keeps channels and pixels as many as they are.

        Its windows are 3 x 3 with a border of zeros, or 1 x 1 where no more pixels are left. It is gated unless its
        activation changes nothing.
        """
        last = self.windows[-1]
        kernel = 3 if min(last.rows, last.columns) >= 3 else 1
        return replace(
            self,
            channel_size=(*self.channel_size, self.channel_size[-1]),
            kernel_size=(*self.kernel_size, kernel),
            stride_size=(*self.stride_size, 1),
            padding=(*self.padding, kernel // 2),
            gated=self.gated if self.repeatable else (*self.gated, self.layers),
        )

    def without_layer(self) -> CNN:
        """Return this architecture without its last layer."""
        n = self.layers - 1
        return replace(
            self,
            channel_size=self.channel_size[:n],
            kernel_size=self.kernel_size[:n],
            stride_size=self.stride_size[:n],
            padding=self.padding[:n],
            gated=tuple(i for i in self.gated if i != n),
        )

    def with_kernel(self, layer: int, by: int) -> CNN:
        """Return this architecture with `by` pixels more on each side of one layer's windows; fewer if negative.

        The border grows with the windows, so that their centres, and the pixels that the layer gives, stay.
        """
        kernels, paddings = list(self.kernel_size), list(self.padding)
        kernels[layer] += 2 * by
        paddings[layer] += by
        return replace(self, kernel_size=tuple(kernels), padding=tuple(paddings))

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object with the keys of a configuration, and `kind`, image and padding."""
        return {
            "kind": self.kind,
            "image": list(self.image),
            "channels_first": self.channels_first,
            "channel_size": list(self.channel_size),
            "kernel_size": list(self.kernel_size),
            "stride_size": list(self.stride_size),
            "padding": list(self.padding),
            "activation": self.activation,
            "min_hidden_layers": self.min_hidden_layers,
            "max_hidden_layers": self.max_hidden_layers,
            "min_channel_size": self.min_channel_size,
            "max_channel_size": self.max_channel_size,
            "gated": list(self.gated),
        }

    def described(self) -> dict[str, Any]:
        """Return what people want to know of the architecture, as JSON."""
        return {
            "kind": self.kind,
            "channel_size": list(self.channel_size),
            "kernel_size": list(self.kernel_size),
            "stride_size": list(self.stride_size),
            "activation": self.activation,
        }

    def check(self, what: str, width: int) -> None:
        """Refuse an architecture with fields of wrong types or sizes, as JSON from elsewhere may have them.

        Args:
            what: Names the network in errors.
            width: How many numbers it reads.

        Raises:
            ConfigError: such a field, too many layers, an image larger than what is read, or a window without room.
        """
        lists = (self.channel_size, self.kernel_size, self.stride_size, self.padding, self.gated, self.image)
        limits = (self.min_hidden_layers, self.max_hidden_layers, self.min_channel_size, self.max_channel_size)
        if any(type(its) is not tuple for its in lists) or type(self.channels_first) is not bool:
            raise ConfigError(f"{what}: {lists}, expected lists of integers")
        if any(type(n) is not int for its in (*lists, limits) for n in its):
            raise ConfigError(f"{what}: {lists}, limits {limits}, expected integers")
        lengths = {len(self.channel_size), len(self.kernel_size), len(self.stride_size), len(self.padding)}
        if len(lengths) > 1 or not 1 <= self.layers <= MAX_LAYERS or len(self.image) != 3:
            raise ConfigError(f"{what}: {lists}, expected 1 to {MAX_LAYERS} layers and an image of three sizes")
        if not set(self.gated) <= set(range(self.layers)):
            raise ConfigError(f"{what}: gated {self.gated}, expected some of its {self.layers} layers")
        if min(*self.image, *self.channel_size, *self.kernel_size, *self.stride_size) < 1 or self.numbers > width:
            raise ConfigError(f"{what}: image {self.image} of {width} numbers, expected sizes from 1 on and no more")
        pixels = self.image[0] * self.image[1]
        read = (self.image[2], *self.channel_size)
        for window, channels in zip(self.windows, read, strict=False):
            if window.padding >= window.kernel or min(window.rows, window.columns) < 1:
                raise ConfigError(f"{what}: kernel {window.kernel} has no room in {window.height} x {window.width}")
            # Neither convolutions as they are configured nor mutations give more pixels than they read.
            larger = window.rows > window.height or window.columns > window.width
            gathered = window.cells * window.kernel**2 * channels
            if window.kernel > MAX_KERNEL or larger or gathered > MAX_GATHERED:
                raise ConfigError(
                    f"{what}: kernel {window.kernel} with padding {window.padding} on {window.height} x {window.width} "
                    f"x {channels}, expected at most {MAX_KERNEL}, no more pixels than are read, and windows of at "
                    f"most {MAX_GATHERED} numbers together; make them smaller"
                )
            pixels = max(pixels, window.cells)
        if pixels > MAX_CELLS:
            raise ConfigError(f"{what}: an image of {pixels} pixels, expected at most {MAX_CELLS}; make it smaller")

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> CNN:
        """Make an architecture from its JSON object; missing keys take their defaults.

        Raises:
            TypeError: an unknown key.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        return CNN(**fields)
