"""SimBa: residual blocks with layer normalisation, an encoder of vectors (Lee et al., 2024, arXiv 2410.09754)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from covey.errors import ConfigError
from covey.networks.labels import Axis, ParamSpec, Segment, axis_width
from covey.networks.ops import Activation, Array, Ops

MAX_BLOCKS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SimBa:
    """Architecture of a SimBa encoder, in the words of AgileRL's `encoder_config`.

        h = W x + b                                    hidden_size numbers, the stream
        h = h + B_i activation(A_i norm(h) + a_i) + b_i      for each block i
        latents = W' norm(h) + b'

    A block whose B_i is zero passes the stream as it is. So a new block changes nothing, nor do new units of a block,
    whose part of B_i starts at zero, and networks of different depth are stacked. The stream keeps its size, as its
    normalisation would change with it.

    Attributes:
        hidden_size: Numbers of the stream.
        block_size: Units of each block, at first `scale_factor` times `hidden_size`.
        activation: Of the blocks and of the outputs, one of `covey.networks.ops.ACTIVATIONS`.
        min_hidden_layers: Fewest blocks that mutations leave.
        max_hidden_layers: Most blocks that mutations build.
        min_block_size: Fewest units of a block that mutations leave.
        max_block_size: Most units of a block that mutations build.
    """

    kind: ClassVar[str] = "simba"
    units: ClassVar[str] = "node"

    hidden_size: int = 128
    block_size: tuple[int, ...] = (512, 512)
    activation: str = "ReLU"
    min_hidden_layers: int = 1
    max_hidden_layers: int = 4
    min_block_size: int = 64
    max_block_size: int = 2000

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.block_size)

    @property
    def gated(self) -> tuple[int, ...]:
        """No gates: a block passes the stream by itself."""
        return ()

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """Fewest units of a block that mutations leave, and most that they build."""
        return self.min_block_size, self.max_block_size

    @property
    def parts(self) -> tuple[()]:
        """Encoders inside this one: none."""
        return ()

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for networks which can be padded to one depth, and so be stacked."""
        return self.kind, self.hidden_size

    @property
    def repeatable(self) -> bool:
        """Whether blocks that padding adds may have any activation: yes, as they add nothing to the stream."""
        return True

    def aligned(self, layers: int, gated: tuple[int, ...]) -> SimBa:
        """Return this architecture with more blocks, as wide as the last."""
        del gated
        return replace(self, block_size=self.block_size + self.block_size[-1:] * (layers - self.layers))

    def layer_activation(self, layer: int) -> str:
        """Return the activation of a block, which is the same for all."""
        del layer
        return self.activation

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the network's parameters, first layer first.

        Args:
            prefix: Begins the parameters' names.
            source: The axis of inputs.
            target: The segment of outputs.
            gain: Factor of the last layer's initial weights.
        """
        stream: Axis = (Segment(f"{prefix}.stream", self.hidden_size),)
        fan_in = axis_width(source)
        yield ParamSpec(f"{prefix}.in.weight", (source, stream), "uniform", fan_in, inputs=1)
        yield ParamSpec(f"{prefix}.in.bias", (stream,), "uniform", fan_in)
        for i, size in enumerate(self.block_size):
            units: Axis = (Segment(f"{prefix}.{i}.units", size),)
            yield ParamSpec(f"{prefix}.{i}.norm.scale", (stream,), "ones")
            yield ParamSpec(f"{prefix}.{i}.norm.bias", (stream,), "zeros")
            yield ParamSpec(
                f"{prefix}.{i}.weight", (stream, units), "uniform", self.hidden_size, inputs=1, added="init"
            )
            yield ParamSpec(f"{prefix}.{i}.bias", (units,), "uniform", self.hidden_size)
            yield ParamSpec(f"{prefix}.{i}.back.weight", (units, stream), "uniform", size, inputs=1, added="zeros")
            yield ParamSpec(f"{prefix}.{i}.back.bias", (stream,), "uniform", size)
        yield ParamSpec(f"{prefix}.norm.scale", (stream,), "ones")
        yield ParamSpec(f"{prefix}.norm.bias", (stream,), "zeros")
        yield ParamSpec(f"{prefix}.out.weight", (stream, (target,)), "uniform", self.hidden_size, gain, inputs=1)
        yield ParamSpec(f"{prefix}.out.bias", ((target,),), "uniform", self.hidden_size, gain)

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
            x: Inputs, (B, in), or (K, B, in) for a pack.
            valid: Not needed: the stream, over which is normalised, has no padding.
            activations: By block, "<prefix>.<block>", the activations of a pack's networks where they are not all this
                one's.

        Returns:
            (B, out) or (K, B, out).
        """
        del valid

        def norm(name: str, stream: Array) -> Array:
            return ops.layer_norm(ops.copy(stream), params[f"{name}.scale"], params[f"{name}.bias"], None)

        stream = ops.linear(x, params[f"{prefix}.in.weight"], params[f"{prefix}.in.bias"])
        for i in range(self.layers):
            y = norm(f"{prefix}.{i}.norm", stream)
            y = ops.linear(y, params[f"{prefix}.{i}.weight"], params[f"{prefix}.{i}.bias"])
            y = ops.activation(activations.get(f"{prefix}.{i}", self.activation), y)
            y = ops.linear(y, params[f"{prefix}.{i}.back.weight"], params[f"{prefix}.{i}.back.bias"])
            stream = ops.plus(stream, y)
        return ops.linear(norm(f"{prefix}.norm", stream), params[f"{prefix}.out.weight"], params[f"{prefix}.out.bias"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the units of each block, which mutations may change, by their label."""
        return {f"{prefix}.{i}.units": size for i, size in enumerate(self.block_size)}

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> SimBa:
        """Return this architecture with other sizes for the blocks whose labels are given."""
        return replace(
            self, block_size=tuple(sizes.get(f"{prefix}.{i}.units", size) for i, size in enumerate(self.block_size))
        )

    def with_layer(self) -> SimBa:
        """Return this architecture with one more block at the end, as wide as the last."""
        return self.aligned(self.layers + 1, ())

    def without_layer(self) -> SimBa:
        """Return this architecture without its last block."""
        return replace(self, block_size=self.block_size[:-1])

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object."""
        return {
            "kind": self.kind,
            "hidden_size": self.hidden_size,
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
            "hidden_size": self.hidden_size,
            "num_blocks": self.layers,
            "block_size": list(self.block_size),
            "activation": self.activation,
        }

    def check(self, what: str, width: int) -> None:
        """Refuse an architecture with fields of wrong types or sizes, as JSON from elsewhere may have them.

        Args:
            what: Names the network in errors.
            width: How many numbers it reads, which may be any.

        Raises:
            ConfigError: such a field, or too many blocks.
        """
        del width
        numbers = (
            *(self.hidden_size, self.min_hidden_layers, self.max_hidden_layers),
            *(self.min_block_size, self.max_block_size),
        )
        if type(self.block_size) is not tuple or any(type(n) is not int for n in (*self.block_size, *numbers)):
            raise ConfigError(f"{what}: block_size {self.block_size}, sizes {numbers}, expected integers")
        if not 1 <= self.layers <= MAX_BLOCKS or min(*self.block_size, self.hidden_size) < 1:
            raise ConfigError(
                f"{what}: hidden_size {self.hidden_size}, blocks {self.block_size}, expected 1 to {MAX_BLOCKS} blocks "
                "of sizes from 1 on"
            )

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SimBa:
        """Make an architecture from its JSON object; missing keys take their defaults.

        Raises:
            TypeError: an unknown key.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        return SimBa(**fields)
