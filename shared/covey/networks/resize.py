"""Architecture changes that carry weights along: the one mechanism of growth and removal, derived from the labels.

A `Resize` says for every parameter of the new spec which positions come from where in the old one, and what the rest
starts as. The same object moves parameters, target parameters (which get the same fresh weights) and both Adam moments
(zero for what is new), so that the four stay aligned.

What it does to outputs:

* `grow` leaves them as they were: new units have fresh incoming weights, so that they differ and can learn, and
  outgoing weights of zero.
* `insert_layer` leaves them as they were: an identity weight and a zero bias, which an idempotent activation passes;
  for every other activation the layer is gated, and the gate starts at 0, where the layer is linear.
* `shrink` and `remove_layer` change them. The units that go are those of smallest contribution (norm of incoming times
  norm of outgoing weights). A removed layer is folded into the weights after it as if it had been linear, which is
  exact for a layer whose gate is 0.

With `layer_norm` less is preserved: new units of a normalised layer shift its mean and variance, an inserted layer
normalises what passed unnormalised before, and folding leaves the normalisation out. Growth of the latent space is
exact even then, because nothing normalises latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import EllipsisType

import numpy as np
from numpy.typing import NDArray

from covey.networks.labels import Axis, axis_width, kept, positions
from covey.networks.mlp import MLP
from covey.networks.network import NetworkSpec, Params

HEAD = "head"
ENCODER = "encoder."

Index = tuple[NDArray[np.intp], ...] | EllipsisType
"""Positions on each axis of a parameter, as `np.ix_` gives them; an ellipsis for all."""


@dataclass(frozen=True, slots=True)
class Resize:
    """How the numbers of one network move into another architecture.

    Attributes:
        spec: The new architecture.
        fresh: Values in new shapes for every parameter that has something new.
        origin: By new parameter that takes something over: its positions, and where they lie in the old parameter of
            the same name.
        folded: (hidden layer, layer after it) by prefix where the first is removed: "head.1" and "head.out".
    """

    spec: NetworkSpec
    fresh: Params
    origin: Mapping[str, tuple[Index, Index]]
    folded: tuple[str, str] | None = None

    def weights(self, old: Params) -> Params:
        """Parameters, or target parameters, in the new shapes; shares no memory with `old`."""
        new = self._moved(old, self.fresh)
        if self.folded:
            layer, after = self.folded
            new[f"{after}.weight"] = old[f"{layer}.weight"] @ old[f"{after}.weight"]
            new[f"{after}.bias"] = old[f"{layer}.bias"] @ old[f"{after}.weight"] + old[f"{after}.bias"]
        return new

    def moments(self, old: Params) -> Params:
        """Adam moments in the new shapes: what was kept keeps its moments, what is new or folded starts at zero."""
        return self._moved(old, {})

    def _moved(self, old: Params, start: Params) -> Params:
        new: Params = {}
        for p in self.spec.parameters:
            value = start[p.name].copy() if p.name in start else np.zeros(p.shape, np.float32)
            if p.name in self.origin:
                here, there = self.origin[p.name]
                value[here] = old[p.name][there]
            new[p.name] = value
        return new


def grow(spec: NetworkSpec, label: str, units: int, rng: np.random.Generator) -> Resize:
    """`units` more of `label` (one of `spec.sizes`), at the end; outputs do not change."""
    size = spec.sizes[label]
    new = spec.resized({label: size + units})
    origin = _origin(spec, new, label, np.arange(size))
    fresh = new.init(rng)
    for p in new.parameters:
        for k, axis in enumerate(p.axes[: p.inputs]):
            added = np.ones(axis_width(axis), np.bool_)
            added[positions(_with_size(axis, label, size), axis)] = False
            fresh[p.name][(slice(None),) * k + (added,)] = 0
    return Resize(new, fresh, origin)


def shrink(spec: NetworkSpec, label: str, units: int, params: Params) -> Resize:
    """`units` fewer of `label`: those go that contribute least in `params`, the others keep their order."""
    size = spec.sizes[label]
    new = spec.resized({label: size - units})
    strongest = np.argsort(-contribution(spec, params, label), kind="stable")
    return Resize(new, {}, _origin(spec, new, label, np.sort(strongest[: size - units])))


def contribution(spec: NetworkSpec, params: Params, label: str) -> NDArray[np.float64]:
    """How much each unit of `label` can matter: norm of its incoming times norm of its outgoing weights.

    Returns:
        (spec.sizes[label],)
    """
    size = spec.sizes[label]
    incoming, outgoing = np.zeros(size), np.zeros(size)
    for p in spec.parameters:
        if not p.inputs:
            continue
        squares = params[p.name].astype(np.float64) ** 2
        for k, axis in enumerate(p.axes):
            per_position = squares.sum(tuple(i for i in range(squares.ndim) if i != k))
            side, offset = outgoing if k < p.inputs else incoming, 0
            for s in axis:
                if s.label == label:
                    side += per_position[offset : offset + s.width].reshape(s.size, s.repeat).sum(1)
                offset += s.width
    return np.sqrt(incoming * outgoing)


def insert_layer(spec: NetworkSpec, part: str) -> Resize:
    """One more hidden layer at the end of `part`, as wide as the last; outputs do not change.

    Args:
        spec: Architecture whose `part` has at least one hidden layer.
        part: "head" or "encoder.<input name>".
    """
    new = with_part(spec, part, get_part(spec, part).with_layer())
    old_names = {p.name for p in spec.parameters}
    fresh: Params = {}
    for p in new.parameters:
        if p.name in old_names:
            continue
        if p.inputs:
            fresh[p.name] = np.eye(*p.shape, dtype=np.float32)
        else:
            one = p.init == "ones" and not p.name.endswith(".gate")
            fresh[p.name] = np.full(p.shape, float(one), np.float32)
    return Resize(new, fresh, {name: (..., ...) for name in old_names})


def remove_layer(spec: NetworkSpec, part: str) -> Resize:
    """Without the last hidden layer of `part` ("head" or "encoder.<input name>"), which is folded into its output."""
    mlp = get_part(spec, part)
    new = with_part(spec, part, mlp.without_layer())
    origin: dict[str, tuple[Index, Index]] = {
        p.name: (..., ...) for p in new.parameters if p.name != f"{part}.out.weight"
    }
    return Resize(new, {}, origin, folded=(f"{part}.{len(mlp.hidden_size) - 1}", f"{part}.out"))


def parts(spec: NetworkSpec) -> tuple[str, ...]:
    """Prefixes of all encoders, then "head"."""
    return (*(f"{ENCODER}{i.name}" for i in spec.inputs), HEAD)


def get_part(spec: NetworkSpec, part: str) -> MLP:
    """The head, or the encoder "encoder.<input name>"."""
    if part == HEAD:
        return spec.head
    return next(i.encoder for i in spec.inputs if f"{ENCODER}{i.name}" == part)


def with_part(spec: NetworkSpec, part: str, mlp: MLP) -> NetworkSpec:
    """The same architecture with another head or encoder."""
    if part == HEAD:
        return replace(spec, head=mlp)
    return replace(
        spec, inputs=tuple(replace(i, encoder=mlp) if f"{ENCODER}{i.name}" == part else i for i in spec.inputs)
    )


def _origin(old: NetworkSpec, new: NetworkSpec, label: str, units: NDArray[np.intp]) -> dict[str, tuple[Index, Index]]:
    """Where everything lies that stays when the first places of `label` go to `units` of the old ones."""
    origin: dict[str, tuple[Index, Index]] = {}
    for a, b in zip(old.parameters, new.parameters, strict=True):
        there = [kept(axis, label, units) for axis in a.axes]
        staying = [_with_size(axis, label, len(units)) for axis in a.axes]
        here = [positions(small, axis) for small, axis in zip(staying, b.axes, strict=True)]
        origin[b.name] = (np.ix_(*here), np.ix_(*there))
    return origin


def _with_size(axis: Axis, label: str, size: int) -> Axis:
    return tuple(replace(s, size=size) if s.label == label else s for s in axis)
