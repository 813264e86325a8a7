"""What an encoder is, and which kinds there are: covey's own, and those that others install (`covey.encoders`).

An encoder reads the flat vector of an agent's observation and gives latents. A kind is a frozen dataclass in a file of
its own; padding, growth, removal and what happens to optimiser moments follow from the labels of its parameters' axes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol, Self

from covey.errors import ConfigError, one_line
from covey.networks.cnn import CNN
from covey.networks.labels import Axis, ParamSpec, Segment
from covey.networks.mlp import MLP
from covey.networks.multi_input import MultiInput
from covey.networks.ops import Activation, Array, Ops
from covey.networks.recurrent import Recurrent
from covey.networks.resnet import ResNet
from covey.networks.simba import SimBa
from covey.networks.torch_module import TorchModule

GROUP = "covey.encoders"


class Encoder(Protocol):
    """The architecture of an encoder: equal ones compare equal, and JSON holds them exactly.

    Attributes:
        kind: Name of the kind, in configurations and JSON.
        units: What a layer's width is counted in, for people: "node" or "channel".
        activation: Of the layers and the outputs, one of `covey.networks.ops.ACTIVATIONS`.
        gated: Indices of the gated layers, see `covey.networks.mlp.MLP`.
        min_hidden_layers: Fewest layers that mutations leave.
        max_hidden_layers: Most layers that mutations build.
    """

    kind: ClassVar[str]
    units: ClassVar[str]

    @property
    def activation(self) -> str:
        """Activation of the layers and the outputs."""
        ...

    @property
    def gated(self) -> tuple[int, ...]:
        """Indices of the gated layers."""
        ...

    @property
    def min_hidden_layers(self) -> int:
        """Fewest layers that mutations leave."""
        ...

    @property
    def max_hidden_layers(self) -> int:
        """Most layers that mutations build."""
        ...

    @property
    def layers(self) -> int:
        """Number of layers before the last, linear one; 0 where mutations change none."""
        ...

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """Fewest units of a layer that mutations leave, and most that they build."""
        ...

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for encoders which can be padded to one architecture, and so be stacked."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether the activation, applied once more to the last layer's output, would change nothing."""
        ...

    @property
    def parts(self) -> tuple[tuple[str, Any], ...]:
        """Encoders inside this one, by the names that follow the prefix in their parameters' names."""
        ...

    def aligned(self, layers: int, gated: tuple[int, ...]) -> Self:
        """Return this architecture with as many layers and these gates, whose additions change nothing."""
        ...

    def layer_activation(self, layer: int) -> str:
        """Return the activation of a layer."""
        ...

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the parameters, whose names begin with `prefix`, from the axis of inputs to that of outputs."""
        ...

    def apply(
        self,
        ops: Ops,
        params: Mapping[str, Array],
        prefix: str,
        x: Array,
        valid: Mapping[str, Array],
        activations: Mapping[str, Activation],
    ) -> Array:
        """Compute (B, out) from (B, in), or (K, B, out) from (K, B, in); without an activation at the end."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of layers, which mutations may change, by the label of their units."""
        ...

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> Self:
        """Return this architecture with other sizes for the layers whose labels are given."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object, with `kind`."""
        ...

    def described(self) -> dict[str, Any]:
        """Return what people want to know of the architecture, as JSON."""
        ...

    def check(self, what: str, width: int) -> None:
        """Refuse, by a ConfigError that begins with `what`, an architecture that no reader of `width` numbers has."""
        ...


ENCODERS: dict[str, Any] = {its.kind: its for its in (MLP, CNN, MultiInput, SimBa, ResNet, Recurrent, TorchModule)}
"""covey's own kinds of encoder by name."""


def known_kinds() -> list[str]:
    """Return the names of all kinds of encoder, covey's own and those that packages have installed, sorted."""
    return sorted({*ENCODERS, *(entry.name for entry in entry_points(group=GROUP))})


def is_foreign(encoder: Any) -> bool:
    """Whether an encoder, or one inside it, is of a kind that a package has installed, which computes as it likes."""
    return not kinds_of(encoder) <= ENCODERS.keys()


def kinds_of(encoder: Any) -> set[str]:
    """Return the kinds of an encoder and of those inside it."""
    return {encoder.kind, *(kind for _, part in encoder.parts for kind in kinds_of(part))}


@functools.cache
def encoder_kind(name: str) -> Any:
    """Return the class of a kind of encoder; `from_json` of it makes one.

    Raises:
        ConfigError: no package has installed such a kind, or it cannot be imported.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise ConfigError(f"encoder kind {name!r}: expected one of {', '.join(known_kinds())}, or install its package")
    try:
        return found[name].load()
    except Exception as exc:  # anything that a stranger's module raises when it is imported
        raise ConfigError(
            f"encoder kind {name!r}: {found[name].value} does not load ({type(exc).__name__}: "
            f"{one_line(str(exc), 300)}); repair or uninstall the package"
        ) from exc


def encoder_from_json(data: Mapping[str, Any]) -> Encoder:
    """Make an encoder of any kind from its JSON object, which has its `kind`; one with memory has another one inside.

    Raises:
        ConfigError: an unknown kind, or memory within memory.
        KeyError, TypeError, ValueError, AttributeError: not such an object.
    """
    kind = str(data["kind"])
    if kind != Recurrent.kind:
        made: Encoder = encoder_kind(kind).from_json(data)
        return made
    if str(data["encoder"]["kind"]) == Recurrent.kind:
        raise ConfigError("encoder: memory within memory, expected an encoder without; leave one of them out")
    return Recurrent.from_json(data, encoder_from_json(data["encoder"]))
