"""Multi-layer perceptron: every network's head, and the encoder of vector observations."""

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
    """Hidden layers of `hidden_size` units; the vocabulary of AgileRL's `encoder_config` and `head_config`.

    Layers in `gated` pass `x + gate * (activation(linear(x)) - linear(x))`, with one trainable gate a unit: a layer
    that evolution inserted starts at gate 0, where it is linear, so that an identity weight leaves the network's
    function as it was. With an idempotent activation (ReLU) no gate is needed.
    """

    kind: ClassVar[str] = "mlp"

    hidden_size: tuple[int, ...] = (64,)
    activation: str = "ReLU"
    layer_norm: bool = False
    min_hidden_layers: int = 1
    max_hidden_layers: int = 3
    min_mlp_nodes: int = 16
    max_mlp_nodes: int = 500
    gated: tuple[int, ...] = ()

    @property
    def structure(self) -> tuple[object, ...]:
        """Equal for networks that `aligned` makes alike: with or without hidden layers, as many where they normalise.

        What is normalised does not pass through a layer, and what a network without hidden layers reads may be wider
        than any layer.
        """
        layers = len(self.hidden_size)
        return self.kind, self.layer_norm, layers if self.layer_norm else min(layers, 1)

    @property
    def repeatable(self) -> bool:
        """Whether the activation passes what the last hidden layer gives: applied again, it changes nothing."""
        return self.activation in IDEMPOTENT and len(self.hidden_size) - 1 not in self.gated

    def aligned(self, layers: int, gated: tuple[int, ...]) -> MLP:
        """With so many hidden layers and these gates, at least its own; added layers are as wide as the last."""
        added = self.hidden_size[-1:] * (layers - len(self.hidden_size))
        return replace(self, hidden_size=(*self.hidden_size, *added), gated=gated)

    def layer_activation(self, layer: int) -> str:
        """Of a hidden layer, or of one that `aligned` adds: with an identity weight, that passes what comes in."""
        own = layer < len(self.hidden_size) or self.repeatable
        return self.activation if own else "Identity"

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Parameters from `source` to `target`; `gain` scales the last layer's initial weights."""
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
        """Hidden layers and the last linear layer, without an activation after it.

        Args:
            ops: Backend.
            params: Natural or packed parameters.
            prefix: Of the parameter names.
            x: (B, in) or (K, B, in).
            valid: Validity of padded units by label, (K, 1, units); a label that is missing has no padding.
            activations: Of the rows of a pack by layer, "<prefix>.<layer>", where they are not all the network's own.
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
        """Labels that evolution may resize, with their sizes."""
        return {f"{prefix}.{i}.units": size for i, size in enumerate(self.hidden_size)}

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> MLP:
        """The same network with other sizes for the labels given."""
        return replace(
            self,
            hidden_size=tuple(sizes.get(f"{prefix}.{i}.units", size) for i, size in enumerate(self.hidden_size)),
        )

    def with_layer(self) -> MLP:
        """One more hidden layer at the end, as wide as the last; gated unless the activation passes what comes in.

        An idempotent activation does, if it also is the last thing that the layer before applies: a gate opens that.
        """
        n = len(self.hidden_size)
        return self.aligned(n + 1, self.gated if self.repeatable else (*self.gated, n))

    def without_layer(self) -> MLP:
        """Without the last hidden layer."""
        n = len(self.hidden_size) - 1
        return replace(self, hidden_size=self.hidden_size[:-1], gated=tuple(i for i in self.gated if i != n))

    def to_json(self) -> dict[str, Any]:
        """As written in a configuration, plus `kind`."""
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

    def check(self, part: str) -> None:
        """Refuse fields of other kinds than they are to be; `part` names the network in errors.

        Raises:
            ConfigError: such a field, or too many layers.
        """
        layers, gated = self.hidden_size, self.gated
        limits = (self.min_hidden_layers, self.max_hidden_layers, self.min_mlp_nodes, self.max_mlp_nodes)
        if not (type(layers) is type(gated) is tuple and len(layers) <= MAX_LAYERS):
            raise ConfigError(f"{part}: hidden_size {layers}, expected at most {MAX_LAYERS} integers")
        if any(type(n) is not int for n in (*layers, *gated, *limits)) or type(self.layer_norm) is not bool:
            raise ConfigError(f"{part}: hidden_size {layers}, gated {gated}, limits {limits}, expected integers")
        if not set(gated) <= set(range(len(layers))):
            raise ConfigError(f"{part}: gated {gated}, expected some of its {len(layers)} layers")

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> MLP:
        """Inverse of `to_json`; missing keys take their defaults.

        Raises:
            TypeError: an unknown key.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        return MLP(**fields)
