"""An encoder with memory: a GRU (Cho et al., 2014) behind another encoder, whose state lasts from decision to decision.

With the latents v of what is seen, the state h of the decision before and the sigmoid function s:

    r  = s(v Wr + b + h Ur + c)            how much of the state is looked at
    z  = s(v Wz + b + h Uz + c)            how much of the state stays
    n  = tanh(v Wn + b + r * (h Un + c))   what is new
    h' = n + z * (h - n)

The encoder's outputs are a linear layer of h'. A state begins at zeros, so its numbers stay within -1 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from covey.errors import ConfigError
from covey.networks.labels import Axis, ParamSpec, Segment
from covey.networks.ops import ACTIVATIONS, IDEMPOTENT, Activation, Array, Ops

MEMORY = "memory"
"""Label of a state's units, the same in the network that keeps the state and in those that read it."""

READ = "read"
"""Name of the encoder inside: what reads the observation."""

MAX_STATE = 4096
"""Most numbers of a state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent:
    """Architecture of an encoder with memory: an encoder of what is seen, a GRU behind it, and a linear layer.

    Attributes:
        encoder: Of what is seen; it gives as many latents as the whole does.
        hidden_state_size: Units of the GRU, which are the numbers of its state.
        min_hidden_state_size: Fewest that mutations leave.
        max_hidden_state_size: Most that mutations build.
        activation: Of the outputs.
    """

    kind: ClassVar[str] = "recurrent"
    units: ClassVar[str] = "node"

    encoder: Any
    hidden_state_size: int = 64
    min_hidden_state_size: int = 16
    max_hidden_state_size: int = 512
    activation: str = "ReLU"

    @property
    def gated(self) -> tuple[int, ...]:
        """No hidden layers of its own, and so none that are gated."""
        return ()

    @property
    def min_hidden_layers(self) -> int:
        """No hidden layers of its own: mutations change those of the encoder inside."""
        return 0

    @property
    def max_hidden_layers(self) -> int:
        """No hidden layers of its own: mutations change those of the encoder inside."""
        return 0

    @property
    def layers(self) -> int:
        """No hidden layers of its own: mutations change those of the encoder inside."""
        return 0

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """Fewest units of the GRU that mutations leave, and most that they build."""
        return self.min_hidden_state_size, self.max_hidden_state_size

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for networks which can be padded to one architecture, and so be stacked."""
        return self.kind, self.encoder.structure

    @property
    def repeatable(self) -> bool:
        """Whether the activation, applied twice, is as if applied once."""
        return self.activation in IDEMPOTENT

    @property
    def parts(self) -> tuple[tuple[str, Any], ...]:
        """The encoder inside and those inside that, by the names that follow the prefix in parameters' names."""
        return (READ, self.encoder), *((f"{READ}.{name}", part) for name, part in self.encoder.parts)

    def with_part(self, name: str, encoder: Any) -> Recurrent:
        """Return this architecture with another encoder inside, named as in `parts`."""
        own = encoder if name == READ else self.encoder.with_part(name.removeprefix(f"{READ}."), encoder)
        return replace(self, encoder=own)

    def aligned(self, layers: int, gated: tuple[int, ...]) -> Recurrent:
        """Return this architecture: it has no hidden layers of its own, only those of the encoder inside."""
        del layers, gated
        return self

    def layer_activation(self, layer: int) -> str:
        """Return the activation."""
        del layer
        return self.activation

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the parameters: of the encoder inside, of the GRU, of the linear layer behind it.

        The three gates r, z and n stand side by side on one axis, each with all units of the GRU.

        Args:
            prefix: Begins the parameters' names.
            source: The axis of inputs.
            target: The segment of outputs, which the encoder inside has too.
            gain: Factor of the last layer's initial weights.
        """
        yield from self.encoder.parameters(f"{prefix}.{READ}", source, target)
        units = Segment(MEMORY, self.hidden_state_size)
        fan_in, gates = self.hidden_state_size, (units, units, units)
        for name, axis in (("input", (target,)), ("state", (units,))):
            yield ParamSpec(f"{prefix}.{MEMORY}.{name}.weight", (axis, gates), "uniform", fan_in, inputs=1)
            yield ParamSpec(f"{prefix}.{MEMORY}.{name}.bias", (gates,), "uniform", fan_in)
        yield ParamSpec(f"{prefix}.out.weight", ((units,), (target,)), "uniform", fan_in, gain, inputs=1)
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
        """Refuse: what this encoder gives depends on a state; `NetworkSpec.step` computes it.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{prefix}: an encoder with memory, expected to be computed by NetworkSpec.step")

    def read(
        self,
        ops: Ops,
        params: Mapping[str, Array],
        prefix: str,
        x: Array,
        valid: Mapping[str, Array],
        activations: Mapping[str, Activation],
    ) -> Array:
        """Compute what observations alone bring to the gates, (B, 3 H), or (K, B, 3 H) for a pack; H units of a GRU.

        It depends on no state, so that all decisions of a sequence can be computed at once.
        """
        inner = f"{prefix}.{READ}"
        y = self.encoder.apply(ops, params, inner, x, valid, activations)
        y = ops.activation(activations.get(f"{inner}.out", self.encoder.activation), y)
        return ops.linear(y, params[f"{prefix}.{MEMORY}.input.weight"], params[f"{prefix}.{MEMORY}.input.bias"])

    def advance(self, ops: Ops, params: Mapping[str, Array], prefix: str, gates: Array, state: Array) -> Array:
        """Return the states after one decision, (B, H), from those before it and what `read` gave; or (K, B, H)."""
        own = f"{prefix}.{MEMORY}.state"
        return ops.gru(gates, ops.linear(state, params[f"{own}.weight"], params[f"{own}.bias"]), state)

    def tell(self, ops: Ops, params: Mapping[str, Array], prefix: str, state: Array) -> Array:
        """Compute the outputs (B, out) from the states after decisions; without an activation at the end."""
        return ops.linear(state, params[f"{prefix}.out.weight"], params[f"{prefix}.out.bias"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes that mutations may change, by the label of their units: the GRU's, and those inside."""
        inner: dict[str, int] = self.encoder.sizes(f"{prefix}.{READ}")
        return {**inner, MEMORY: self.hidden_state_size}

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> Recurrent:
        """Return this architecture with other sizes for the layers whose labels are given."""
        return replace(
            self,
            encoder=self.encoder.resized(f"{prefix}.{READ}", sizes),
            hidden_state_size=sizes.get(MEMORY, self.hidden_state_size),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object."""
        return {
            "kind": self.kind,
            "encoder": self.encoder.to_json(),
            "hidden_state_size": self.hidden_state_size,
            "min_hidden_state_size": self.min_hidden_state_size,
            "max_hidden_state_size": self.max_hidden_state_size,
            "activation": self.activation,
        }

    def described(self) -> dict[str, Any]:
        """Return what people want to know of the architecture, as JSON."""
        return {
            "kind": self.kind,
            "hidden_state_size": self.hidden_state_size,
            "encoder": self.encoder.described(),
            "activation": self.activation,
        }

    def check(self, what: str, width: int) -> None:
        """Refuse an architecture that contradicts itself, as JSON from elsewhere may do.

        Args:
            what: Names the network in errors.
            width: How many numbers it reads.

        Raises:
            ConfigError: sizes that are no integers or too large, memory within memory, or an encoder that is refused.
        """
        sizes = (self.hidden_state_size, self.min_hidden_state_size, self.max_hidden_state_size)
        if any(type(n) is not int or not 1 <= n <= MAX_STATE for n in sizes):
            raise ConfigError(f"{what}: hidden_state_size {sizes}, expected integers from 1 to {MAX_STATE}")
        if isinstance(self.encoder, Recurrent):
            raise ConfigError(f"{what}: memory within memory, expected an encoder without; leave one of them out")
        for name, encoder in self.parts:
            if encoder.activation not in ACTIVATIONS:
                raise ConfigError(
                    f"{what}.{name}: activation {encoder.activation!r}, expected one of {', '.join(ACTIVATIONS)}"
                )
        self.encoder.check(f"{what}.{READ}", width)

    @staticmethod
    def from_json(data: Mapping[str, Any], encoder: Any) -> Recurrent:
        """Make an architecture from its JSON object, and the encoder inside that was made of its `encoder`.

        Raises:
            TypeError: an unknown key.
        """
        return Recurrent(encoder=encoder, **{k: v for k, v in data.items() if k not in ("kind", "encoder")})
