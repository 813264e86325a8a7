"""An encoder of observations with images among other things: one encoder for each image and one for all the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from covey.errors import ConfigError
from covey.networks.cnn import CNN
from covey.networks.labels import Axis, ParamSpec, Segment, axis_width
from covey.networks.mlp import MLP
from covey.networks.ops import ACTIVATIONS, IDEMPOTENT, Activation, Array, Ops

MAX_IMAGES = 64
VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image of an observation: its name, where its numbers begin in the flat observation, and its encoder."""

    name: str
    start: int
    encoder: CNN

    @property
    def stop(self) -> int:
        """Index in the flattened observation of the first number behind this image."""
        return self.start + self.encoder.numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiInput:
    """Architecture of an encoder of several inputs: a CNN for each image, an MLP for all the rest as one vector.

    Each of them gives as many latents as the whole does; a linear layer joins them.

    Attributes:
        images: In the order in which they lie in the observation.
        vector: Encoder of everything else, in its order; None: there is nothing else.
        activation: Of the latents, of the parts' and of the joined ones.
    """

    kind: ClassVar[str] = "multi_input"
    units: ClassVar[str] = "node"

    images: tuple[ImagePart, ...]
    vector: MLP | None = None
    activation: str = "ReLU"

    @property
    def gated(self) -> tuple[int, ...]:
        """No layers of its own, and so none that are gated."""
        return ()

    @property
    def min_hidden_layers(self) -> int:
        """No layers of its own: mutations change those of the parts."""
        return 0

    @property
    def max_hidden_layers(self) -> int:
        """No layers of its own: mutations change those of the parts."""
        return 0

    @property
    def layers(self) -> int:
        """No layers of its own: mutations change those of the parts."""
        return 0

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """No units of its own: mutations change those of the parts."""
        return 0, 0

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for networks which can be padded to one architecture, and so be stacked."""
        images = tuple((part.start, part.encoder.structure) for part in self.images)
        return self.kind, images, None if self.vector is None else self.vector.structure

    @property
    def repeatable(self) -> bool:
        """Whether the activation, applied twice, is as if applied once."""
        return self.activation in IDEMPOTENT

    @property
    def parts(self) -> tuple[tuple[str, MLP | CNN], ...]:
        """The encoders inside, by the names that follow the prefix in their parameters' names."""
        images = tuple((f"image_{k}", part.encoder) for k, part in enumerate(self.images))
        return images if self.vector is None else (*images, (VECTOR, self.vector))

    def with_part(self, name: str, encoder: Any) -> MultiInput:
        """Return this architecture with another encoder inside, named as in `parts`."""
        if name == VECTOR:
            return replace(self, vector=encoder)
        images = tuple(
            replace(part, encoder=encoder) if name == f"image_{k}" else part for k, part in enumerate(self.images)
        )
        return replace(self, images=images)

    def aligned(self, layers: int, gated: tuple[int, ...]) -> MultiInput:
        """Return this architecture: it has no layers of its own, only those of its parts."""
        del layers, gated
        return self

    def layer_activation(self, layer: int) -> str:
        """Return the activation."""
        del layer
        return self.activation

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the parameters: of each part, then of the layer that joins them.

        Args:
            prefix: Begins the parameters' names.
            source: The axis of inputs.
            target: The segment of outputs, which each part has too.
            gain: Factor of the last layer's initial weights.
        """
        rest = axis_width(source) - sum(part.encoder.numbers for part in self.images)
        for name, encoder in self.parts:
            width = rest if encoder is self.vector else encoder.numbers  # type: ignore[union-attr]
            yield from encoder.parameters(f"{prefix}.{name}", (Segment(f"{prefix}.{name}.input", width),), target)
        joined: Axis = (target,) * len(self.parts)
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
        """Compute the encoder for one batch, or for one batch each of K stacked networks.

        B inputs a batch; the last linear layer has no activation after it.

        Args:
            ops: Backend.
            params: Parameters of one network, or packed ones of K networks, by name.
            prefix: Begins the parameters' names.
            x: Inputs, (B, in), or (K, B, in) for a pack.
            valid: By label of units (K, 1, units), 1 for units that a network has and 0 for padding.
            activations: By layer, "<prefix>.<part>.<layer>", the activations of a pack's networks where they are not
                all this one's.

        Returns:
            (B, out) or (K, B, out).
        """
        read = [ops.columns(x, part.start, part.stop) for part in self.images]
        if self.vector is not None:
            starts = [0, *(part.stop for part in self.images)]
            stops = [*(part.start for part in self.images), x.shape[-1]]
            rest = [ops.columns(x, a, b) for a, b in zip(starts, stops, strict=True) if a < b]
            read.append(rest[0] if len(rest) == 1 else ops.concat(rest))
        latents = []
        for (name, encoder), its in zip(self.parts, read, strict=True):
            inner = f"{prefix}.{name}"
            y = encoder.apply(ops, params, inner, its, valid, activations)
            latents.append(ops.activation(activations.get(f"{inner}.out", encoder.activation), y))
        y = latents[0] if len(latents) == 1 else ops.concat(latents)
        return ops.linear(y, params[f"{prefix}.out.weight"], params[f"{prefix}.out.bias"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes of the parts' layers, which mutations may change, by the label of their units."""
        return {
            label: size for name, encoder in self.parts for label, size in encoder.sizes(f"{prefix}.{name}").items()
        }

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> MultiInput:
        """Return this architecture with other sizes for the layers whose labels are given."""
        result = self
        for name, encoder in self.parts:
            result = result.with_part(name, encoder.resized(f"{prefix}.{name}", sizes))
        return result

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object."""
        return {
            "kind": self.kind,
            "images": [
                {"name": part.name, "start": part.start, "encoder": part.encoder.to_json()} for part in self.images
            ],
            "vector": None if self.vector is None else self.vector.to_json(),
            "activation": self.activation,
        }

    def described(self) -> dict[str, Any]:
        """Return what people want to know of the architecture, as JSON."""
        inputs = {part.name: part.encoder.described() for part in self.images}
        if self.vector is not None:
            inputs |= {VECTOR: self.vector.described()}
        return {"kind": self.kind, "inputs": inputs, "activation": self.activation}

    def check(self, what: str, width: int) -> None:
        """Refuse an architecture that contradicts itself, as JSON from elsewhere may do.

        Args:
            what: Names the network in errors.
            width: How many numbers it reads.

        Raises:
            ConfigError: images that overlap or lie outside, nothing for the vector to read, or a part that is refused.
        """
        if not 1 <= len(self.images) <= MAX_IMAGES:
            raise ConfigError(f"{what}: {len(self.images)} images, expected 1 to {MAX_IMAGES}")
        at = 0
        for part in self.images:
            if type(part.start) is not int or part.start < at:
                raise ConfigError(f"{what}: image {part.name!r} begins at {part.start}, expected at {at} or later")
            part.encoder.check(f"{what}.{part.name}", width - part.start)
            at = part.stop
        rest = width - sum(part.encoder.numbers for part in self.images)
        if self.vector is not None:
            if rest < 1:
                raise ConfigError(f"{what}: no numbers are left beside the images, expected some for the vector")
            self.vector.check(f"{what}.{VECTOR}", rest)
        for _, encoder in self.parts:
            if encoder.activation not in ACTIVATIONS:
                raise ConfigError(
                    f"{what}: activation {encoder.activation!r}, expected one of {', '.join(ACTIVATIONS)}"
                )

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> MultiInput:
        """Make an architecture from its JSON object.

        Raises:
            KeyError, TypeError: a missing or an unknown key.
        """
        images = tuple(
            ImagePart(str(part["name"]), part["start"], CNN.from_json(part["encoder"])) for part in data["images"]
        )
        vector = None if data["vector"] is None else MLP.from_json(data["vector"])
        return MultiInput(images=images, vector=vector, activation=data["activation"])
