"""The multilayer perceptron: every network's last part, and the encoder of vector observations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from covey.errors import ConfigError
from covey.networks.labels import Axis, ParamSpec, Segment, axis_width
from covey.networks.ops import IDEMPOTENT, Activation, Array, Ops

MAX_LAYERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MLP:
    """Architecture of a multilayer perceptron, in the words of AgileRL's `encoder_config` and `head_config`.

    A gated layer gives y + gate * (activation(y) - y), y = linear(x), with one trainable gate for each unit. A layer
    that evolution inserts starts at gate 0, where it is linear, so that an identity weight leaves the network's
    function as it was. With an idempotent activation, f(f(x)) = f(x) as for ReLU, no gate is needed.

    Attributes:
        hidden_size: Units of each hidden layer.
        activation: Of the hidden layers, one of `covey.networks.ops.ACTIVATIONS`.
        layer_norm: Whether hidden layers are normalised before their activation.
        min_hidden_layers: Fewest hidden layers that mutations leave.
        max_hidden_layers: Most hidden layers that mutations build.
        min_mlp_nodes: Fewest units of a hidden layer that mutations leave.
        max_mlp_nodes: Most units of a hidden layer that mutations build.
        gated: Indices of the gated hidden layers.
    """

    kind: ClassVar[str] = "mlp"
    units: ClassVar[str] = "node"

    hidden_size: tuple[int, ...] = (64,)
    activation: str = "ReLU"
    layer_norm: bool = False
    min_hidden_layers: int = 1
    max_hidden_layers: int = 3
    min_mlp_nodes: int = 16
    max_mlp_nodes: int = 500
    gated: tuple[int, ...] = ()

    @property
    def layers(self) -> int:
        """Number of hidden layers."""
        return len(self.hidden_size)

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """Fewest units of a hidden layer that mutations leave, and most that they build."""
        return self.min_mlp_nodes, self.max_mlp_nodes

    @property
    def parts(self) -> tuple[()]:
        """Encoders inside this one: none."""
        return ()

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for networks which can be padded to one depth, and so be stacked.

        Depth is padded by layers that pass their input. That is impossible where layers normalise, so there the depths
        must be equal; and without any hidden layer, where the input may be wider than any layer of the others.
        """
        layers = len(self.hidden_size)
        return self.kind, self.layer_norm, layers if self.layer_norm else min(layers, 1)

    @property
    def repeatable(self) -> bool:
        """Whether the activation, applied once more to the last hidden layer's output, would change nothing."""
        return self.activation in IDEMPOTENT and len(self.hidden_size) - 1 not in self.gated

    def aligned(self, layers: int, gated: tuple[int, ...]) -> MLP:
        """Return this architecture with more hidden layers and gates; added layers are as wide as the last.

        Args:
            layers: Hidden layers, at least as many as there are.
            gated: Indices of gated layers, at least those that are gated.
        """
        added = self.hidden_size[-1:] * (layers - len(self.hidden_size))
        return replace(self, hidden_size=(*self.hidden_size, *added), gated=gated)

    def layer_activation(self, layer: int) -> str:
        """Return the activation of a hidden layer; a layer that only padding adds passes its input unchanged."""
        own = layer < len(self.hidden_size) or self.repeatable
        return self.activation if own else "Identity"

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the network's parameters, first layer first.

        Args:
            prefix: Begins the parameters' names.
            source: The axis of inputs.
            target: The segment of outputs.
            gain: Factor of the last layer's initial weights.
        """
        for i, size in enumerate(self.hidden_size):
            units: Axis = (Segment(f"{prefix}.{i}.units", size),)
            fan_in = axis_width(source)
            yield ParamSpec(f"{prefix}.{i}.weight", (source, units), "uniform", fan_in, inputs=1)
            yield ParamSpec(f"{prefix}.{i}.bias", (units,), "uniform", fan_in)
            if self.layer_norm:
                yield ParamSpec(f"{prefix}.{i}.norm.scale", (units,), "ones")
                yield ParamSpec(f"{prefix}.{i}.norm.bias", (units,), "zeros")
            if i in self.gated:
                yield ParamSpec(f"{prefix}.{i}.gate", (units,), "ones")
            source = units
        fan_in = axis_width(source)
        yield ParamSpec(f"{prefix}.out.weight", (source, (target,)), "uniform", fan_in, gain, inputs=1)
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
            x: Inputs, (B, in), or (K, B, in) for a pack.
            valid: By label of units (K, 1, units), 1 for units that a network has and 0 for padding; a label that is
                missing has no padding.
            activations: By layer, "<prefix>.<layer>", the activations of a pack's networks where they are not all this
                one's.

        Returns:
            (B, out) or (K, B, out).
        """
        for i in range(len(self.hidden_size)):
            x = ops.linear(x, params[f"{prefix}.{i}.weight"], params[f"{prefix}.{i}.bias"])
            if self.layer_norm:
                x = ops.layer_norm(
                    x,
                    params[f"{prefix}.{i}.norm.scale"],
                    params[f"{prefix}.{i}.norm.bias"],
                    valid.get(f"{prefix}.{i}.units"),
                )
            which = activations.get(f"{prefix}.{i}", self.activation)
            x = ops.gated(which, params[f"{prefix}.{i}.gate"], x) if i in self.gated else ops.activation(which, x)
        return ops.linear(x, params[f"{prefix}.out.weight"], params[f"{prefix}.out.bias"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of the hidden layers, which mutations may change, by the label of their units."""
        return {f"{prefix}.{i}.units": size for i, size in enumerate(self.hidden_size)}

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> MLP:
        """Return this architecture with other sizes for the hidden layers whose labels are given."""
        return replace(
            self,
            hidden_size=tuple(sizes.get(f"{prefix}.{i}.units", size) for i, size in enumerate(self.hidden_size)),
        )

    def with_layer(self) -> MLP:
        """Return this architecture with one more hidden layer at the end, as wide as the last.

        The new layer is gated unless its activation changes nothing: an idempotent activation does not, after an
        ungated layer with the same activation.
        """
        n = len(self.hidden_size)
        return self.aligned(n + 1, self.gated if self.repeatable else (*self.gated, n))

    def without_layer(self) -> MLP:
        """Return this architecture without its last hidden layer."""
        n = len(self.hidden_size) - 1
        return replace(self, hidden_size=self.hidden_size[:-1], gated=tuple(i for i in self.gated if i != n))

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object with the keys of a configuration, and `kind`."""
        return {
            "kind": self.kind,
            "hidden_size": list(self.hidden_size),
            "activation": self.activation,
            "layer_norm": self.layer_norm,
            "min_hidden_layers": self.min_hidden_layers,
            "max_hidden_layers": self.max_hidden_layers,
            "min_mlp_nodes": self.min_mlp_nodes,
            "max_mlp_nodes": self.max_mlp_nodes,
            "gated": list(self.gated),
        }

    def described(self) -> dict[str, Any]:
        """Return what people want to know of the architecture, as JSON."""
        return {"kind": self.kind, "hidden_size": list(self.hidden_size), "activation": self.activation}

    def check(self, what: str, width: int) -> None:
        """Refuse an architecture with fields of wrong types, as JSON from elsewhere may have them.

        Args:
            what: Names the network in errors.
            width: How many numbers it reads, which may be any.

        Raises:
            ConfigError: such a field, or too many layers.
        """
        del width
        layers, gated = self.hidden_size, self.gated
        limits = (self.min_hidden_layers, self.max_hidden_layers, self.min_mlp_nodes, self.max_mlp_nodes)
        if not (type(layers) is type(gated) is tuple and len(layers) <= MAX_LAYERS):
            raise ConfigError(f"{what}: hidden_size {layers}, expected at most {MAX_LAYERS} integers")
        if any(type(n) is not int for n in (*layers, *gated, *limits)) or type(self.layer_norm) is not bool:
            raise ConfigError(f"{what}: hidden_size {layers}, gated {gated}, limits {limits}, expected integers")
        if not set(gated) <= set(range(len(layers))):
            raise ConfigError(f"{what}: gated {gated}, expected some of its {len(layers)} layers")

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> MLP:
        """Make an architecture from its JSON object; missing keys take their defaults.

        Raises:
            TypeError: an unknown key.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        return MLP(**fields)
