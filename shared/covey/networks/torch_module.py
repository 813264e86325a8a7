"""An encoder around a `torch.nn.Module` of one's own, which a function named in the configuration makes.

The module reads an agent's observation and gives features; a linear layer of covey's joins them to the latents. Here is
its description alone, by which its weights travel: how it is computed, `covey_server.packing.torch_modules` knows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covey.errors import ConfigError
from covey.networks.labels import Axis, ParamSpec, Segment, axis_width
from covey.networks.ops import IDEMPOTENT, Activation, Array, Ops
from covey.networks.trusted_modules import ENTRY_POINT, check_trusted, torch_ops
from covey.spaces import Box, MultiBinary, Space, leaves

Shape = tuple[int, ...]
Named = tuple[tuple[str, Shape], ...]
"""Shapes by name, in order."""

MAX_TENSORS = 4096
MAX_RANK = 8
MAX_NAME = 200
MAX_OPTIONS = 1 << 16
"""Most characters of a module's keyword arguments as JSON."""


def shapes_of(space: Space) -> Named:
    """Return the shapes in which a module reads observations of a space, by the dotted names of its leaves.

    Boxes and MultiBinary have their own shape; Discrete and MultiDiscrete, which are one-hot, are vectors. A space
    without leaves inside has one shape, named "".
    """
    own = [(leaf.name, leaf.space) for leaf in leaves(space)]
    return tuple(
        (name, its.shape if isinstance(its, Box | MultiBinary) and its.shape else (its.width,)) for name, its in own
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchModule:
    """Description of a `torch.nn.Module` as an encoder: who makes it, what it reads, gives and learns.

    Attributes:
        module: The function that makes it, "package.module:function".
        options: Its keyword arguments, a JSON object as text.
        reads: The shapes that it reads for each sample, by the dotted names of an observation's leaves; one shape of
            the name "" is read as a tensor, all else as a dictionary of tensors.
        features: How many numbers it gives for each sample.
        tensors: Its parameters' names and shapes.
        activation: Of the latents, one of `covey.networks.ops.ACTIVATIONS`.
    """

    kind: ClassVar[str] = "torch"
    units: ClassVar[str] = "node"

    module: str
    options: str
    reads: Named
    features: int
    tensors: Named
    activation: str = "ReLU"

    @property
    def numbers(self) -> int:
        """Number of elements of all that the module reads of one sample."""
        return sum(math.prod(shape) for _, shape in self.reads)

    @property
    def gated(self) -> tuple[int, ...]:
        """No layers that covey knows, and so none that are gated."""
        return ()

    @property
    def min_hidden_layers(self) -> int:
        """No layers that mutations change."""
        return 0

    @property
    def max_hidden_layers(self) -> int:
        """No layers that mutations change."""
        return 0

    @property
    def layers(self) -> int:
        """No layers that mutations change."""
        return 0

    @property
    def unit_bounds(self) -> tuple[int, int]:
        """No units that mutations change."""
        return 0, 0

    @property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for encoders which can be stacked: those of one module with equal arguments."""
        return self.kind, self.module, self.options, self.reads, self.features, self.tensors

    @property
    def repeatable(self) -> bool:
        """Whether the activation, applied twice, is as if applied once."""
        return self.activation in IDEMPOTENT

    @property
    def parts(self) -> tuple[()]:
        """Encoders inside this one: none."""
        return ()

    def aligned(self, layers: int, gated: tuple[int, ...]) -> TorchModule:
        """Return this architecture, which has no layers to align."""
        del layers, gated
        return self

    def layer_activation(self, layer: int) -> str:
        """Return the activation."""
        del layer
        return self.activation

    def parameters(self, prefix: str, source: Axis, target: Segment, *, gain: float = 1.0) -> Iterator[ParamSpec]:
        """Describe the parameters: the module's own, whose initial values `initial` gives, then the joining layer's.

        Args:
            prefix: Begins the parameters' names.
            source: The axis of inputs: what the module reads, and numbers that join behind it.
            target: The segment of outputs.
            gain: Factor of the joining layer's initial weights.
        """
        for name, shape in self.tensors:
            axes = tuple((Segment(f"{prefix}.module.{name}.{k}", n),) for k, n in enumerate(shape))
            yield ParamSpec(f"{prefix}.module.{name}", axes, "zeros")
        beside = Segment(f"{prefix}.beside", axis_width(source) - self.numbers)
        joined: Axis = (Segment(f"{prefix}.features", self.features), beside)
        fan_in = axis_width(joined)
        yield ParamSpec(f"{prefix}.out.weight", (joined, (target,)), "uniform", fan_in, gain, inputs=1)
        yield ParamSpec(f"{prefix}.out.bias", ((target,),), "uniform", fan_in, gain)

    def initial(self, prefix: str, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """Return the module's own initial weights by name, as its function draws them with torch.

        Raises:
            ConfigError: as `load`.
        """
        own = self.load().initial_weights(self, int(rng.integers(1 << 62)))
        return {f"{prefix}.module.{name}": values for name, values in own.items()}

    def load(self) -> Any:
        """Make the module, so that it is known to be the one described; returns the operations in torch.

        Raises:
            ConfigError: it is not trusted here, torch is missing, its function is not found or fails, or it is another
                module than the one described.
        """
        check_trusted(self.module)
        ops = torch_ops(f"module {self.module}")
        ops.check_module(self)
        return ops

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
            x: Inputs, (B, in), or (K, B, in) for a pack: what the module reads, and numbers that follow it.
            valid: Not needed, as no layer normalises.
            activations: Not needed, as there is no hidden layer.

        Returns:
            (B, out) or (K, B, out).
        """
        del valid, activations
        width = x.shape[-1]
        beside = None if width == self.numbers else ops.columns(x, self.numbers, width)
        seen = x if beside is None else ops.columns(x, 0, self.numbers)
        y = ops.module(self, {name: params[f"{prefix}.module.{name}"] for name, _ in self.tensors}, seen)
        if beside is not None:
            y = ops.concat([y, beside])
        return ops.linear(y, params[f"{prefix}.out.weight"], params[f"{prefix}.out.bias"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the sizes that mutations may change: none."""
        del prefix
        return {}

    def resized(self, prefix: str, sizes: Mapping[str, int]) -> TorchModule:
        """Return this architecture, of which nothing can be resized."""
        del prefix, sizes
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object."""
        return {
            "kind": self.kind,
            "module": self.module,
            "options": json.loads(self.options),
            "reads": [[name, list(shape)] for name, shape in self.reads],
            "features": self.features,
            "tensors": [[name, list(shape)] for name, shape in self.tensors],
            "activation": self.activation,
        }

    def described(self) -> dict[str, Any]:
        """Return what people want to know of the architecture, as JSON."""
        return {
            "kind": self.kind,
            "module": self.module,
            "options": json.loads(self.options),
            "features": self.features,
            "activation": self.activation,
        }

    def check(self, what: str, width: int) -> None:
        """Refuse a description that contradicts itself, as JSON from elsewhere may do; the module is not made.

        Args:
            what: Names the network in errors.
            width: How many numbers it reads.

        Raises:
            ConfigError: such a description.
        """
        if not ENTRY_POINT.fullmatch(self.module) or len(self.options) > MAX_OPTIONS:
            raise ConfigError(f"{what}: module {self.module[:80]!r}, expected package.module:function")
        if not 1 <= len(self.reads) <= MAX_TENSORS or len(self.tensors) > MAX_TENSORS:
            raise ConfigError(f"{what}: {len(self.tensors)} tensors, expected at most {MAX_TENSORS}")
        for name, shape in (*self.reads, *self.tensors):
            sizes = type(shape) is tuple and len(shape) <= MAX_RANK and all(type(n) is int and n >= 1 for n in shape)
            if type(name) is not str or len(name) > MAX_NAME or not sizes:
                raise ConfigError(f"{what}: tensor {str(name)[:80]!r} of shape {shape}, expected sizes from 1 on")
        if len(dict(self.tensors)) < len(self.tensors) or len(dict(self.reads)) < len(self.reads):
            raise ConfigError(f"{what}: two tensors have one name, expected names of their own")
        if type(self.features) is not int or self.features < 1 or self.numbers > width:
            raise ConfigError(
                f"{what}: {self.numbers} numbers to {self.features} features, expected at most the {width} that are "
                "read, and at least one feature"
            )

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TorchModule:
        """Make an architecture from its JSON object.

        Raises:
            KeyError, TypeError, ValueError: a missing key, or one of another form.
        """
        return TorchModule(
            module=str(data["module"]),
            options=options_text(data["options"]),
            reads=tuple((name, tuple(shape)) for name, shape in data["reads"]),
            features=data["features"],
            tensors=tuple((name, tuple(shape)) for name, shape in data["tensors"]),
            activation=data["activation"],
        )


def options_text(options: Mapping[str, Any]) -> str:
    """Return a module's keyword arguments as JSON text, equal for equal ones.

    Raises:
        TypeError, ValueError: they are no JSON object.
    """
    if not isinstance(options, Mapping) or any(type(key) is not str for key in options):
        raise TypeError(f"options {str(options)[:80]}, expected keyword arguments by name")
    return json.dumps(dict(options), sort_keys=True, separators=(",", ":"), allow_nan=False)
