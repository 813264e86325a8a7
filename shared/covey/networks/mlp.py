"""Multi-layer perceptron: every network's head, and the encoder of vector observations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from covey.networks.labels import Axis, ParamSpec, Segment, axis_width
from covey.networks.ops import IDEMPOTENT, Array, Ops


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
    ) -> Array:
        """Hidden layers and the last linear layer, without an activation after it.

        Args:
            ops: Backend.
            params: Natural or packed parameters.
            prefix: Of the parameter names.
            x: (B, in) or (K, B, in).
            valid: Validity of padded units by label, (K, 1, units); a label that is missing has no padding.
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
            if i in self.gated:
                # The backend may work in place; the gate needs what went in.
                y = ops.activation(self.activation, x + 0)
                x = ops.gate(params[f"{prefix}.{i}.gate"], x, y)
            else:
                x = ops.activation(self.activation, x)
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
        passes = self.activation in IDEMPOTENT and n - 1 not in self.gated
        gated = self.gated if passes else (*self.gated, n)
        return replace(self, hidden_size=(*self.hidden_size, self.hidden_size[-1]), gated=gated)

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

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> MLP:
        """Inverse of `to_json`; missing keys take their defaults.

        Raises:
            TypeError: an unknown key.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        return MLP(**fields)
