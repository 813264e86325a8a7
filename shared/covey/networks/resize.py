"""Changes an architecture while keeping its weights: adds or removes units and layers.

A `Resize` says for every parameter of the new architecture which positions come from where in the old one, and what the
rest starts as; it follows from the labels of the axes. The same object moves parameters, target parameters (which get
the same fresh weights) and both Adam moments (zero for what is new), so that the four stay aligned.

What each change does to a network's outputs:

* `grow` leaves them as they were: new units have fresh incoming weights, so that they differ and can learn, and
  outgoing weights of zero.
* `insert_layer` leaves them as they were: an identity weight and a zero bias, which an idempotent activation passes;
  for every other activation the layer is gated, and the gate starts at 0, where the layer is linear.
  A residual block is inserted with a last layer of zeros, which adds nothing to the stream.
* `shrink` and `remove_layer` change them. The units that go are those of smallest contribution (norm of incoming times
  norm of outgoing weights). A removed layer is folded into the weights after it as if it had been linear, which is
  exact for a layer whose gate is 0.

With `layer_norm` less is preserved: new units of a normalised layer shift its mean and variance, an inserted layer
normalises what passed unnormalised before, and folding leaves the normalisation out. Growth of the latent space is
exact even then, because nothing normalises latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.networks.cnn import CNN
from covey.networks.convolution import Window, folded
from covey.networks.labels import Axis, axis_width, kept, positions
from covey.networks.network import NetworkSpec, Params, init_parameter
from covey.networks.resnet import ResNet
from covey.networks.simba import SimBa

HEAD = "head"
ENCODER = "encoder."

Index = tuple[NDArray[np.intp], ...] | EllipsisType
"""Positions on each axis of a parameter, as `np.ix_` gives them; an ellipsis for all."""


@dataclass(frozen=True, slots=True)
class Resize:
    """How the parameters of one network move into another architecture.

    Attributes:
        spec: The new architecture.
        fresh: By name, initial values in new shapes of every parameter that has new positions.
        origin: By name, for every parameter that takes numbers over: positions in the new parameter, and the positions
            in the old parameter that they come from.
        folded: If a hidden layer is removed, the prefixes of that layer and of the one after it: "head.1", "head.out".
        window: How the removed layer's windows lay, if it was a convolution.
    """

    spec: NetworkSpec
    fresh: Params
    origin: Mapping[str, tuple[Index, Index]]
    folded: tuple[str, str] | None = None
    window: Window | None = None

    def weights(self, old: Params) -> Params:
        """Return the parameters, or target parameters, for the new architecture; shares no memory with `old`."""
        new = self._moved(old, self.fresh)
        if self.folded:
            # As if the removed layer had been linear: (x W + b) V + c = x (W V) + (b V + c).
            layer, after = self.folded
            weight, bias = old[f"{layer}.weight"], old[f"{layer}.bias"]
            after_weight, after_bias = old[f"{after}.weight"], old[f"{after}.bias"]
            if self.window is None:
                new[f"{after}.weight"] = weight @ after_weight
                new[f"{after}.bias"] = bias @ after_weight + after_bias
            else:
                new[f"{after}.weight"], added = folded(weight, bias, after_weight, self.window)
                new[f"{after}.bias"] = after_bias + added
        return new

    def moments(self, old: Params) -> Params:
        """Return Adam moments for the new architecture: kept where weights are, zero for what is new or merged."""
        return self._moved(old, {})

    def _moved(self, old: Params, start: Params) -> Params:
        """Copy the numbers of `old` to their new places; elsewhere put those of `start`, or 0."""
        new: Params = {}
        for p in self.spec.parameters:
            value = start[p.name].copy() if p.name in start else np.zeros(p.shape, np.float32)
            if p.name in self.origin:
                here, there = self.origin[p.name]
                value[here] = old[p.name][there]
            new[p.name] = value
        return new


def grow(spec: NetworkSpec, label: str, units: int, rng: np.random.Generator) -> Resize:
    """Add `units` units to the layer `label` (a key of `spec.sizes`), at its end; outputs do not change."""
    size = spec.sizes[label]
    new = spec.resized({label: size + units})
    origin = _origin(spec, new, label, np.arange(size))
    fresh = new.init(rng)
    # Weights that leave new units are 0, so that nothing reads these yet; weights into them stay as drawn.
    for p in new.parameters:
        for k, axis in enumerate(p.axes[: p.inputs]):
            added = np.ones(axis_width(axis), np.bool_)
            added[positions(_with_size(axis, label, size), axis)] = False
            fresh[p.name][(slice(None),) * k + (added,)] = 0
    return Resize(new, fresh, origin)


def shrink(spec: NetworkSpec, label: str, units: int, params: Params) -> Resize:
    """Remove the `units` units of the layer `label` that contribute least in `params`; the others keep their order."""
    strongest = np.argsort(-contribution(spec, params, label), kind="stable")
    return keep(spec, label, np.sort(strongest[: spec.sizes[label] - units]))


def keep(spec: NetworkSpec, label: str, units: NDArray[np.intp]) -> Resize:
    """Remove all units of the layer `label` but these, given by rising position."""
    new = spec.resized({label: len(units)})
    return Resize(new, {}, _origin(spec, new, label, units))


def contribution(spec: NetworkSpec, params: Params, label: str) -> NDArray[np.float64]:
    """Estimate how much each unit of a layer matters: the norm of its incoming times that of its outgoing weights.

    Args:
        spec: The architecture.
        params: Its parameters.
        label: The layer, a key of `spec.sizes`.

    Returns:
        (units of the layer,)
    """
    size = spec.sizes[label]
    incoming, outgoing = np.zeros(size), np.zeros(size)
    for p in spec.parameters:
        if not p.inputs:
            continue
        squares = params[p.name].astype(np.float64) ** 2
        # Where the label stands on an input axis, the weights leave its units; on the output axis, they enter them.
        for k, axis in enumerate(p.axes):
            per_position = squares.sum(tuple(i for i in range(squares.ndim) if i != k))
            side, offset = outgoing if k < p.inputs else incoming, 0
            for s in axis:
                if s.label == label:
                    side += per_position[offset : offset + s.width].reshape(s.size, s.repeat).sum(1)
                offset += s.width
    return np.sqrt(incoming * outgoing)


def insert_layer(spec: NetworkSpec, name: str, rng: np.random.Generator | None = None) -> Resize:
    """Add a hidden layer at the end of a head or encoder, as wide as its last one; outputs do not change.

    Args:
        spec: Architecture in which the head or encoder has at least one hidden layer.
        name: "head" or "encoder.<input name>".
        rng: Generator of what is drawn: needed where a residual block is added.
    """
    new = with_subnetwork(spec, name, get_subnetwork(spec, name).with_layer())
    old_names = {p.name for p in spec.parameters}
    fresh: Params = {}
    for p in new.parameters:
        if p.name in old_names:
            continue
        if p.inputs and p.added == "init":
            assert rng is not None, "a residual block is drawn"
            fresh[p.name] = init_parameter(p, rng)
        elif p.inputs and p.added == "zeros":
            fresh[p.name] = np.zeros(p.shape, np.float32)
        elif p.inputs:  # the weight is the identity; biases are 0, gates 0, scales of a normalisation 1
            fresh[p.name] = _identity(*p.shape)
        else:
            one = p.init == "ones" and not p.name.endswith(".gate")
            fresh[p.name] = np.full(p.shape, float(one), np.float32)
    return Resize(new, fresh, {old: (..., ...) for old in old_names})


def remove_layer(spec: NetworkSpec, name: str) -> Resize:
    """Remove the last hidden layer of a head or encoder, and fold its weights into the layer after it.

    Of residual blocks, the last is left out: what it added to the stream is missing then.

    Args:
        spec: The architecture.
        name: "head" or "encoder.<input name>".
    """
    old = get_subnetwork(spec, name)
    new = with_subnetwork(spec, name, old.without_layer())
    origin: dict[str, tuple[Index, Index]] = {
        p.name: (..., ...) for p in new.parameters if p.name != f"{name}.out.weight"
    }
    if isinstance(old, SimBa | ResNet):
        return Resize(new, {}, {p.name: (..., ...) for p in new.parameters})
    window = old.windows[-1] if isinstance(old, CNN) else None
    return Resize(new, {}, origin, folded=(f"{name}.{old.layers - 1}", f"{name}.out"), window=window)


def change_kernel(spec: NetworkSpec, name: str, layer: int, by: int) -> Resize:
    """Give a convolution's windows `by` pixels more on each side, whose weights start at 0, or take as many away.

    More pixels change no output. The layer gives as many pixels as before, as its border grows or shrinks alike.

    Args:
        spec: The architecture.
        name: The encoder, "encoder.<input name>".
        layer: Index of the convolution.
        by: 1 or -1.
    """
    new = with_subnetwork(spec, name, get_subnetwork(spec, name).with_kernel(layer, by))
    changed = f"{name}.{layer}.weight"
    origin: dict[str, tuple[Index, Index]] = {p.name: (..., ...) for p in new.parameters if p.name != changed}
    shapes = {side: next(p.shape for p in of.parameters if p.name == changed) for side, of in ((0, spec), (1, new))}
    kernel = get_subnetwork(spec if by > 0 else new, name).kernel_size[layer]  # the smaller of both
    small, large = (shapes[0], shapes[1]) if by > 0 else (shapes[1], shapes[0])
    # Weights of the larger windows by row, column and channel: the smaller ones are in their middle.
    grid = np.arange(large[0]).reshape(kernel + 2, kernel + 2, -1)
    inner = np.ix_(grid[1:-1, 1:-1].ravel(), np.arange(large[1]))
    whole = np.ix_(np.arange(small[0]), np.arange(small[1]))
    origin[changed] = (inner, whole) if by > 0 else (whole, inner)
    return Resize(new, {changed: np.zeros(shapes[1], np.float32)} if by > 0 else {}, origin)


def subnetwork_names(spec: NetworkSpec) -> tuple[str, ...]:
    """Return the names of a network's encoders, "encoder.<input name>", of their parts, and then "head".

    Names of parameters begin with them. A part is an encoder inside another, "encoder.<input name>.<part>".
    """
    return (*(name for name, _ in _encoders(spec)), HEAD)


def get_subnetwork(spec: NetworkSpec, name: str) -> Any:
    """Return the head or encoder of a network by its name, as `subnetwork_names` gives them."""
    return spec.head if name == HEAD else dict(_encoders(spec))[name]


def with_subnetwork(spec: NetworkSpec, name: str, part: Any) -> NetworkSpec:
    """Return the architecture with another head or encoder, named as `subnetwork_names` does."""
    if name == HEAD:
        return replace(spec, head=part)

    def changed(own: str, encoder: Any) -> Any:
        if name == own:
            return part
        inner = name.removeprefix(f"{own}.")
        return encoder.with_part(inner, part) if inner in dict(encoder.parts) else encoder

    return replace(
        spec, inputs=tuple(replace(i, encoder=changed(f"{ENCODER}{i.name}", i.encoder)) for i in spec.inputs)
    )


def _encoders(spec: NetworkSpec) -> Iterator[tuple[str, Any]]:
    """Yield the encoders of a network by name, each followed by the encoders inside it."""
    for i in spec.inputs:
        yield f"{ENCODER}{i.name}", i.encoder
        for part, encoder in i.encoder.parts:
            yield f"{ENCODER}{i.name}.{part}", encoder


def _identity(inputs: int, outputs: int) -> NDArray[np.float32]:
    """Return weights of a layer that passes its input; of a convolution, the pixel in the middle of each window."""
    weights = np.zeros((inputs // outputs, outputs, outputs), np.float32)
    weights[len(weights) // 2] = np.eye(outputs)
    return weights.reshape(inputs, outputs)


def _origin(old: NetworkSpec, new: NetworkSpec, label: str, units: NDArray[np.intp]) -> dict[str, tuple[Index, Index]]:
    """Find for each parameter which old numbers go where, if one layer keeps only `units` of its old units."""
    origin: dict[str, tuple[Index, Index]] = {}
    for a, b in zip(old.parameters, new.parameters, strict=True):
        there = [kept(axis, label, units) for axis in a.axes]
        staying = [_with_size(axis, label, len(units)) for axis in a.axes]
        here = [positions(small, axis) for small, axis in zip(staying, b.axes, strict=True)]
        origin[b.name] = (np.ix_(*here), np.ix_(*there))
    return origin


def _with_size(axis: Axis, label: str, size: int) -> Axis:
    """Return an axis with another size for every segment of the layer of that label."""
    return tuple(replace(s, size=size) if s.label == label else s for s in axis)
