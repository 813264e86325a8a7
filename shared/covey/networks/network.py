"""The architecture of a network: encoders of observations and a head that reads their outputs.

An actor has one encoder. A critic has one encoder per group of observed agents, applied to each agent of the group; its
head reads the latents of all agents and the extra inputs (actions, the index of the agent whose value it estimates).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.errors import ConfigError
from covey.networks.encoders import Encoder, encoder_from_json, is_foreign
from covey.networks.labels import Axis, ParamSpec, Segment
from covey.networks.mlp import MLP
from covey.networks.ops import ACTIVATIONS, Activation, Array, Ops
from covey.networks.recurrent import MEMORY, Recurrent
from covey.networks.torch_module import TorchModule

Params = dict[str, NDArray[np.float32]]
"""Parameters of one network by dotted name, in their own shapes, without padding."""

LATENT = "latent"
LOG_STD = "log_std"

# Bounds for specs that came over a wire: an actor trusts its learner no further than this.
MAX_PARAMETERS = 64 << 20
MAX_INPUTS = 1024
MAX_COPIES = 4096  # agents that one network observes
MAX_START = 1e6  # of `output_gain` and `log_std`, from which initial values are made
MAX_PRODUCTS = 1 << 31  # multiplications that one observation may take


@dataclass(frozen=True, slots=True)
class Input:
    """One encoder of a network, which reads the observations of `copies` agents of one group, `width` numbers each."""

    name: str
    width: int
    encoder: Encoder
    copies: int = 1


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A network's architecture; equal architectures compare equal, and JSON holds them exactly.

    Attributes:
        inputs: Encoders and what they read.
        head: From the latents and extra inputs to the outputs.
        outputs: How many numbers the network gives.
        extra: How many numbers join the latents before the head.
        latent_dim: Outputs of each encoder.
        min_latent_dim: Fewest that mutations leave.
        max_latent_dim: Most that mutations build.
        output_gain: Factor of the last layer's initial weights.
        log_std: If set, the network has a parameter "log_std" (outputs,) that starts at this value: the logarithm of
            the standard deviations of a Gaussian policy, the same for every observation.
        reads_memory: How many numbers of a policy's state join the latents before the head, for networks that value
            what a policy with memory sees.
    """

    inputs: tuple[Input, ...]
    head: MLP
    outputs: int
    extra: int = 0
    latent_dim: int = 64
    min_latent_dim: int = 8
    max_latent_dim: int = 128
    output_gain: float = field(default=1.0)
    log_std: float | None = None
    reads_memory: int = 0

    @property
    def state_size(self) -> int:
        """How many numbers of state the network keeps from decision to decision; 0 for one without memory."""
        encoder = self.inputs[0].encoder
        return encoder.hidden_state_size if isinstance(encoder, Recurrent) else 0

    @cached_property
    def parameters(self) -> tuple[ParamSpec, ...]:
        """Descriptions of all parameters with their labelled axes, in an order that the architecture alone decides."""
        latent = Segment(LATENT, self.latent_dim)
        specs: list[ParamSpec] = []
        joint: list[Segment] = []
        for i in self.inputs:
            source: Axis = (Segment(f"{i.name}.input", i.width),)
            specs += i.encoder.parameters(f"encoder.{i.name}", source, latent)
            joint += [latent] * i.copies
        if self.extra:
            joint.append(Segment("extra", self.extra))
        if self.reads_memory:
            joint.append(Segment(MEMORY, self.reads_memory))
        output = Segment("output", self.outputs)
        specs += self.head.parameters("head", tuple(joint), output, gain=self.output_gain)
        if self.log_std is not None:
            specs.append(ParamSpec(LOG_STD, ((output,),), "constant", gain=self.log_std))
        return tuple(specs)

    @cached_property
    def numbers(self) -> int:
        """Number of elements of all parameters together."""
        return sum(p.size for p in self.parameters)

    @cached_property
    def products(self) -> int:
        """Number of multiplications of one forward pass of one observation: of a convolution, many for each weight."""
        return sum(p.size * p.products for p in self.parameters)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Sizes by label of the layers that mutations may change and padding may make equal."""
        sizes = {LATENT: self.latent_dim}
        for i in self.inputs:
            sizes |= i.encoder.sizes(f"encoder.{i.name}")
        if self.reads_memory:
            sizes[MEMORY] = self.reads_memory
        return sizes | self.head.sizes("head")

    @cached_property
    def structure(self) -> tuple[object, ...]:
        """A key that is equal for networks which can be padded to one architecture, and so be stacked."""
        return (
            tuple((i.name, i.width, i.copies, i.encoder.structure) for i in self.inputs),
            self.extra,
            self.head.structure,
            self.outputs,
            self.log_std is None,
            self.reads_memory > 0,
        )

    def resized(self, sizes: Mapping[str, int]) -> NetworkSpec:
        """Return this architecture with other sizes for the layers whose labels are given."""
        return replace(
            self,
            latent_dim=sizes.get(LATENT, self.latent_dim),
            inputs=tuple(replace(i, encoder=i.encoder.resized(f"encoder.{i.name}", sizes)) for i in self.inputs),
            head=self.head.resized("head", sizes),
            reads_memory=sizes.get(MEMORY, self.reads_memory) if self.reads_memory else 0,
        )

    def init(self, rng: np.random.Generator, *, orthogonal: bool = False) -> Params:
        """Draw initial weights for all parameters; returns them by name.

        Args:
            rng: Generator of the draws.
            orthogonal: Whether weights are orthogonal matrices, see `orthogonal_parameter`, instead of uniform numbers.
        """
        draw = orthogonal_parameter if orthogonal else init_parameter
        params = {p.name: draw(p, rng) for p in self.parameters}
        for i in self.inputs:
            if isinstance(i.encoder, TorchModule):  # which draws its own
                params |= i.encoder.initial(f"encoder.{i.name}", rng)
        return params

    def apply(
        self,
        ops: Ops,
        params: Mapping[str, Array],
        inputs: Sequence[Array],
        extra: Array | None = None,
        *,
        memory: Array | None = None,
        valid: Mapping[str, Array] | None = None,
        activations: Mapping[str, Activation] | None = None,
    ) -> Array:
        """Compute the network for a batch of B inputs, or K stacked networks for a batch each.

        Args:
            ops: Backend.
            params: Parameters of this spec, or packed ones of K networks, by name.
            inputs: One array per `Input`, (B, copies * width) or (K, B, copies * width).
            extra: (B, extra) or (K, B, extra), where the spec has extra inputs.
            memory: (B, reads_memory) or (K, B, reads_memory), where the spec reads a policy's state.
            valid: For packs in which layers normalise, the units that are no padding, as `PackLayout.valid` gives them.
            activations: For packs in which activations differ, as `PackLayout.activations` gives them.

        Returns:
            (B, outputs) or (K, B, outputs).
        """
        valid, activations = valid or {}, activations or {}
        joint: list[Array] = []
        for i, x in zip(self.inputs, inputs, strict=True):
            lead = tuple(x.shape[:-1])
            if i.copies > 1:  # each agent is a row of its own for the encoder, and its latents stand side by side after
                x = ops.reshape(x, (*lead[:-1], lead[-1] * i.copies, i.width))
            if is_foreign(i.encoder):
                x = ops.whole(x)
            prefix = f"encoder.{i.name}"
            y = i.encoder.apply(ops, params, prefix, x, valid, activations)
            y = ops.activation(activations.get(f"{prefix}.out", i.encoder.activation), y)
            if i.copies > 1:
                y = ops.reshape(y, (*lead, i.copies * y.shape[-1]))
            joint.append(y)
        if extra is not None:
            joint.append(extra)
        if memory is not None:
            joint.append(memory)
        x = joint[0] if len(joint) == 1 else ops.joint(joint)
        return self.head.apply(ops, params, "head", x, valid, activations)

    def read(
        self,
        ops: Ops,
        params: Mapping[str, Array],
        x: Array,
        valid: Mapping[str, Array] | None = None,
        activations: Mapping[str, Activation] | None = None,
    ) -> Array:
        """Compute what a network with memory takes from observations alone; `advance` goes on from there.

        Arguments are those of `apply`; x is (B, width) or (K, B, width).
        """
        (seen,) = self.inputs
        read: Array = seen.encoder.read(ops, params, f"encoder.{seen.name}", x, valid or {}, activations or {})  # type: ignore[attr-defined]
        return read

    def advance(self, ops: Ops, params: Mapping[str, Array], read: Array, state: Array) -> Array:
        """Return the states after one decision, of the same shape as those before it, (B, H) or (K, B, H)."""
        (seen,) = self.inputs
        return seen.encoder.advance(ops, params, f"encoder.{seen.name}", read, state)  # type: ignore[attr-defined]

    def decide(
        self,
        ops: Ops,
        params: Mapping[str, Array],
        state: Array,
        valid: Mapping[str, Array] | None = None,
        activations: Mapping[str, Activation] | None = None,
    ) -> Array:
        """Compute the outputs of a network with memory from the states after decisions: (B, outputs), or stacked."""
        (seen,) = self.inputs
        valid, activations, prefix = valid or {}, activations or {}, f"encoder.{seen.name}"
        y = seen.encoder.tell(ops, params, prefix, state)  # type: ignore[attr-defined]
        y = ops.activation(activations.get(f"{prefix}.out", seen.encoder.activation), y)
        return self.head.apply(ops, params, "head", y, valid, activations)

    def step(
        self,
        ops: Ops,
        params: Mapping[str, Array],
        x: Array,
        state: Array,
        *,
        valid: Mapping[str, Array] | None = None,
        activations: Mapping[str, Activation] | None = None,
    ) -> tuple[Array, Array]:
        """Compute one decision of a network with memory: its outputs, and the states after it.

        Arguments are those of `apply`; states are (B, H), or (K, B, H) for K stacked networks, H numbers of a state.
        """
        state = self.advance(ops, params, self.read(ops, params, x, valid, activations), state)
        return self.decide(ops, params, state, valid, activations), state

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as a JSON object, from which `from_json` makes an equal one."""
        return {
            "inputs": [
                {
                    "name": i.name,
                    "width": i.width,
                    "copies": i.copies,
                    "encoder": i.encoder.to_json(),
                }
                for i in self.inputs
            ],
            "head": self.head.to_json(),
            "outputs": self.outputs,
            "extra": self.extra,
            "latent_dim": self.latent_dim,
            "min_latent_dim": self.min_latent_dim,
            "max_latent_dim": self.max_latent_dim,
            "output_gain": self.output_gain,
            "log_std": self.log_std,
        } | ({"reads_memory": self.reads_memory} if self.reads_memory else {})

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> NetworkSpec:
        """Make an architecture from its JSON object, which is checked, as it may come from elsewhere.

        Raises:
            ConfigError: not such an object, an unknown kind or activation, or a network larger than an actor accepts.
        """
        try:
            spec = NetworkSpec(
                inputs=tuple(
                    Input(
                        str(i["name"]),
                        int(i["width"]),
                        encoder_from_json(i["encoder"]),
                        int(i["copies"]),
                    )
                    for i in data["inputs"]
                ),
                head=MLP.from_json(data["head"]),
                **{k: int(data[k]) for k in ("outputs", "extra", "latent_dim", "min_latent_dim", "max_latent_dim")},
                output_gain=float(data["output_gain"]),
                log_std=None if data["log_std"] is None else float(data["log_std"]),
                reads_memory=int(data.get("reads_memory", 0)),
            )
            spec.check()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as exc:
            raise ConfigError(f"network spec: {type(exc).__name__} {exc}, expected a spec as to_json gives it") from exc
        return spec

    def check(self) -> None:
        """Refuse an architecture from elsewhere that is too large or contradicts itself, before memory is allocated.

        Raises:
            ConfigError: an unknown activation, a size below 1, too many layers or parameters.
        """
        encoders = ((i.name, i.encoder, i.width) for i in self.inputs)
        for name, part, width in (("head", self.head, self.latent_dim), *encoders):
            if part.activation not in ACTIVATIONS:
                raise ConfigError(f"{name}: activation {part.activation!r}, expected one of {', '.join(ACTIVATIONS)}")
            part.check(name, width)
        counts = (
            self.outputs,
            *self.sizes.values(),
            *(i.width for i in self.inputs),
            *(i.copies for i in self.inputs),
        )
        if sum(i.copies for i in self.inputs) > MAX_COPIES:
            raise ConfigError(f"the network spec reads more than {MAX_COPIES} agents, expected fewer; group them")
        if not 1 <= len(self.inputs) <= MAX_INPUTS or min(counts) < 1 or self.extra < 0:
            raise ConfigError(f"network spec: sizes {counts}, expected at least one input and every size at least 1")
        keeps = [i.encoder for i in self.inputs if isinstance(i.encoder, Recurrent)]
        if self.reads_memory < 0 or (keeps and (len(self.inputs), self.inputs[0].copies, self.extra) != (1, 1, 0)):
            raise ConfigError("network spec: memory beside other inputs, expected one encoder that alone has memory")
        if keeps and self.reads_memory:
            raise ConfigError("network spec: both keeps and reads memory, expected one of them")
        if len({i.name for i in self.inputs}) < len(self.inputs):
            raise ConfigError("network spec: two inputs have one name, expected names of their own")
        if not 0 < self.output_gain <= MAX_START or not abs(self.log_std or 0.0) <= MAX_START:
            raise ConfigError(
                f"network spec: output_gain {self.output_gain}, log_std {self.log_std}, expected at most {MAX_START:g}"
            )
        # What is read is bounded first: parameters are described before they are counted.
        read = sum(i.width for i in self.inputs)
        if max(*counts, self.extra, read) > MAX_PARAMETERS or self.numbers > MAX_PARAMETERS:
            raise ConfigError(f"network spec: more than {MAX_PARAMETERS} parameters; configure smaller layers")
        if self.products > MAX_PRODUCTS:
            raise ConfigError(
                f"network spec: {self.products:,} multiplications for one observation, expected at most "
                f"{MAX_PRODUCTS:,}; configure fewer channels, larger strides or smaller images"
            )


def init_parameter(p: ParamSpec, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the initial values of one parameter: uniform, zeros, ones or a constant, as its description says."""
    if p.init == "uniform":
        bound = p.gain / math.sqrt(p.fan_in)
        return rng.uniform(-bound, bound, p.shape).astype(np.float32)
    return np.full(p.shape, {"zeros": 0.0, "ones": 1.0, "constant": p.gain}[p.init], np.float32)


def orthogonal_parameter(p: ParamSpec, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the initial values of one parameter: weights of a layer orthogonal, its biases 0, all else as without.

    The rows or columns, whichever are fewer, of weights (inputs, outputs) are orthogonal and of one length: the square
    root of 2 where an activation follows, the gain of its description in the last layer (Saxe et al., 2014; for PPO
    Huang et al., 2022, "The 37 implementation details of PPO", 2).
    """
    if p.init != "uniform":
        return init_parameter(p, rng)
    if not p.inputs:
        return np.zeros(p.shape, np.float32)
    inputs, outputs = p.shape
    q, r = np.linalg.qr(rng.standard_normal((max(p.shape), min(p.shape))))
    q *= np.sign(np.diag(r))  # else it is not uniform over orthogonal matrices
    gain = p.gain if p.name == "head.out.weight" else math.sqrt(2)
    return (gain * (q if inputs >= outputs else q.T)).astype(np.float32)
