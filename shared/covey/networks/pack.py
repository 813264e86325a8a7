"""Packs: networks that differ in sizes, depths and activations, padded and stacked to be computed as one batch.

Widths are padded with zeros to the widest. Depths are made equal by layers that pass their input: an identity weight,
and no activation, or one that changes nothing. Where only some networks have a gate, that of the others is 1. None of
that padding is a parameter: masks keep it as it is, and `unpack` leaves it out.

All parameters of a pack lie in one matrix (K, P), so that an optimiser step, a soft update or a copy is a handful of
operations whatever the number of layers. For example, hidden layers of 2 and of 3 units:

    network 0:  w = a b 0 | c d 0    the third unit's column is padding, and so is its row in the next layer
    network 1:  w = a b c | d e f

Rows are filled up to whole cache lines: kernels round by where in such a line a number lies, so that what becomes of a
network does not depend on which row it is.

Dims: K networks, P numbers of a row: those of the padded network, and what fills the line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray

from covey.networks.labels import Axis, ParamSpec, axis_width, positions
from covey.networks.network import NetworkSpec, Params
from covey.networks.ops import Activation, Array
from covey.networks.resize import get_subnetwork, subnetwork_names, with_subnetwork

LINE = 16
"""Numbers of a cache line, and of the widest registers."""


def widened(specs: Sequence[NetworkSpec]) -> tuple[NetworkSpec, ...]:
    """Widen one-input networks to the most inputs and outputs that any of them has, with `log_std` if any has it."""
    width = max(spec.inputs[0].width for spec in specs)
    outputs = max(spec.outputs for spec in specs)
    log_std = 0.0 if any(spec.log_std is not None for spec in specs) else None
    return tuple(
        replace(spec, inputs=(replace(spec.inputs[0], width=width),), outputs=outputs, log_std=log_std)
        for spec in specs
    )


def aligned(specs: Sequence[NetworkSpec]) -> tuple[NetworkSpec, ...]:
    """Deepen networks to as many layers as any of them has, with gates where any has one."""
    result = specs
    for name in subnetwork_names(specs[0]):
        mlps = [get_subnetwork(spec, name) for spec in specs]
        layers = max(mlp.layers for mlp in mlps)
        gated = tuple(sorted({i for mlp in mlps for i in mlp.gated}))
        if any(mlp.layers < layers or mlp.gated != gated for mlp in mlps):
            result = [
                with_subnetwork(spec, name, mlp.aligned(layers, gated)) for spec, mlp in zip(result, mlps, strict=True)
            ]
    return tuple(result)


def padded(specs: Sequence[NetworkSpec]) -> NetworkSpec:
    """Return the architecture that stacked networks are padded to: as deep as the deepest, each layer the widest."""
    if any(spec.structure != specs[0].structure for spec in specs):
        raise ValueError("networks of different structure cannot share a pack")
    first, *rest = aligned(specs)
    sizes = dict(first.sizes)
    for spec in rest:
        sizes = {label: max(size, spec.sizes[label]) for label, size in sizes.items()}
    return first.resized(sizes)


def uneven(specs: Sequence[NetworkSpec], room: NetworkSpec) -> frozenset[str]:
    """Name the layers, by the label of their units, in which any of these networks has fewer units than `room` has."""
    own = aligned((*specs, room))[:-1]
    return frozenset(label for label, n in room.sizes.items() if any(spec.sizes[label] < n for spec in own))


def grouped(specs: Sequence[NetworkSpec], pass_cost: int) -> list[list[int]]:
    """Decide which networks to stack together, weighing the cost of further batches against that of padding.

    Begins with a pack for each architecture; joins the two packs of one structure that save most, as long as any do.

    Args:
        specs: The networks.
        pass_cost: Multiplications for padding, in a pass over one observation, that cost as much as a further batch.

    Returns:
        For each pack positions in `specs`, rising.
    """
    alike: dict[NetworkSpec, list[int]] = {}
    for i, spec in enumerate(specs):
        alike.setdefault(spec, []).append(i)
    packs = dict(enumerate(alike.items()))
    joins: dict[tuple[int, int], tuple[int, NetworkSpec]] = {}

    def compare(a: int, b: int) -> None:
        (one, its), (other, others) = packs[a], packs[b]
        if one.structure == other.structure:
            # Multiplications of a pass: those of the padded architecture, once for each network.
            joint = padded([one, other])
            apart = one.products * len(its) + other.products * len(others)
            joins[a, b] = (pass_cost + apart - joint.products * (len(its) + len(others)), joint)

    for a, b in combinations(packs, 2):
        compare(a, b)
    # Greedy: of all pairs, join the one that saves most, and compare the joint pack with all others.
    while joins:
        a, b = max(joins, key=lambda pair: joins[pair][0])
        saving, joint = joins[a, b]
        if saving <= 0:
            break
        new = max(packs) + 1
        packs[new] = (joint, sorted(packs.pop(a)[1] + packs.pop(b)[1]))
        joins = {pair: join for pair, join in joins.items() if not {a, b} & set(pair)}
        for other in packs:
            if other != new:
                compare(other, new)
    return [rows for _, rows in packs.values()]


def layer_activations(spec: NetworkSpec) -> tuple[tuple[str, int], ...]:
    """Return a key by which to sort networks before stacking, so that equal activations are neighbours."""
    return tuple(
        (mlp.activation, 0 if mlp.repeatable else mlp.layers)
        for mlp in (get_subnetwork(spec, name) for name in subnetwork_names(spec))
    )


Selection = tuple[slice, ...] | tuple[NDArray[np.intp], ...]
"""Positions on each axis of an array: slices where they are neighbours on every axis."""


def _selection(axes: Sequence[NDArray[np.intp]]) -> Selection:
    """Select, in an array, all combinations of these ascending positions on its axes."""
    if all(len(at) == 0 or at[-1] - at[0] == len(at) - 1 for at in axes):
        return tuple(slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0) for at in axes)
    return np.ix_(*axes)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one parameter of a network lies in the network's row of a pack.

    Attributes:
        name: Name of the parameter.
        columns: The columns of the padded parameter.
        shape: Shape of the padded parameter.
        own: Which of its numbers are the network's own.
    """

    name: str
    columns: slice
    shape: tuple[int, ...]
    own: Selection

    def put(self, row: NDArray[np.float32], values: NDArray[np.float32] | float) -> None:
        """Write the network's own numbers of the parameter into its row."""
        row[self.columns].reshape(self.shape)[self.own] = values

    def copied(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copy the network's own numbers of the parameter out of its row."""
        own = np.asarray(row[self.columns].reshape(self.shape)[self.own])  # of a parameter without axes a number
        return own.copy() if own.base is not None else own  # positions that are no slices have made a copy already


@dataclass(frozen=True)
class PackLayout:
    """Where each parameter of K stacked networks lies in their matrix (K, P), P numbers of a row.

    Attributes:
        specs: The networks; of one structure, unless `room` is given.
        room: An architecture with room for all their parameters, to which they are padded: as `padded` makes it of
            more networks, or of forms as `widened` makes them. None: that of these networks alone.
        uneven: The layers, by the label of their units, that count as padded: those in which any network that `room`
            was made for has fewer units. None: in which any of these networks has.
    """

    specs: tuple[NetworkSpec, ...]
    room: NetworkSpec | None = None
    uneven: frozenset[str] | None = None

    @cached_property
    def padded(self) -> NetworkSpec:
        """The architecture that all stacked networks are padded to."""
        return self.room or padded(self.specs)

    @cached_property
    def _own(self) -> tuple[NetworkSpec, ...]:
        """The networks with the layers and gates that padding adds, but each layer in its own width."""
        return aligned((*self.specs, self.padded))[:-1]

    @cached_property
    def width(self) -> int:
        """Number of elements P of a row of the matrix: those of the padded network, in whole cache lines."""
        return -(-self.padded.numbers // LINE) * LINE

    @cached_property
    def _places(self) -> dict[str, tuple[tuple[Axis, ...], int]]:
        """For each parameter of the padded network, by name: the segments on its axes, and its first matrix column."""
        places, offset = {}, 0
        for p in self.padded.parameters:
            places[p.name] = (p.axes, offset)
            offset += p.size
        return places

    @cached_property
    def _where(self) -> tuple[tuple[Place, ...], ...]:
        """For each network, where its own parameters lie in its row, in their order.

        What is kept are positions on axes: kept for every number, they would take more memory than the numbers.
        """
        result: list[tuple[Place, ...]] = []
        known: dict[tuple[NetworkSpec, NetworkSpec], tuple[Place, ...]] = {}
        for spec, own in zip(self.specs, self._own, strict=True):
            if (spec, own) not in known:
                # Axes of the deepened form: the layer after an added one reads the added layer's units.
                axes = {p.name: p for p in own.parameters}
                known[spec, own] = tuple(self._place(axes[p.name]) for p in spec.parameters)
            result.append(known[spec, own])
        return tuple(result)

    def _place(self, p: ParamSpec) -> Place:
        """Return where one parameter lies, given on the axes of the deepened form."""
        axes, offset = self._places[p.name]
        shape = tuple(axis_width(axis) for axis in axes)
        own = [positions(a, b) for a, b in zip(p.axes, axes, strict=True)]
        return Place(p.name, slice(offset, offset + math.prod(shape)), shape, _selection(own))

    @property
    def is_padded(self) -> bool:
        """Whether any of the networks has fewer numbers than the padded one."""
        return any(spec.numbers < self.padded.numbers for spec in self.specs)

    @property
    def constants(self) -> NDArray[np.float32]:
        """The numbers in padding, (K, P): identity weights of added layers, 1 for added gates, 0 elsewhere.

        K networks, P numbers of a row. Made anew whenever it is asked for.
        """
        constants = np.zeros((len(self.specs), self.width), np.float32)
        for row, spec, own in zip(constants, self.specs, self._own, strict=True):
            has = {p.name for p in spec.parameters}
            for p in own.parameters:
                if p.name in has:
                    continue
                place = self._place(p)
                if p.inputs and p.added == "identity":
                    place.put(row, np.eye(*p.shape, dtype=np.float32))
                elif p.name.endswith(".gate"):
                    place.put(row, 1)
        return constants

    def activations(self, rows: Sequence[int]) -> dict[str, Activation]:
        """Return the activations of some of the stacked networks, for layers where any differs from the padded one.

        Args:
            rows: Which networks, in the order in which they are computed.
        """
        result: dict[str, Activation] = {}
        for name in subnetwork_names(self.padded):
            padded, own = get_subnetwork(self.padded, name), [get_subnetwork(self.specs[row], name) for row in rows]
            layers = {f"{name}.{i}": [mlp.layer_activation(i) for mlp in own] for i in range(padded.layers)}
            layers[f"{name}.out"] = [mlp.activation for mlp in own]
            for layer, its in layers.items():
                runs = tuple((activation, len(list(run))) for activation, run in groupby(its))
                if len(runs) > 1:
                    result[layer] = runs
                elif its[0] != padded.activation:
                    result[layer] = its[0]
        return result

    @property
    def mask(self) -> NDArray[np.float32]:
        """Which numbers of the matrix are a network's own, (K, P): 1 for those, 0 for padding.

        K networks, P numbers of a row. Made anew whenever it is asked for.
        """
        mask = np.zeros((len(self.specs), self.width), np.float32)
        for row, places in zip(mask, self._where, strict=True):
            for place in places:
                place.put(row, 1)
        return mask

    def valid(self) -> dict[str, NDArray[np.float32]]:
        """For layers with padding, which units each of K networks has: by label (K, 1, units), 1 or 0."""
        result = {}
        for label in uneven(self.specs, self.padded) if self.uneven is None else sorted(self.uneven):
            own = np.array([spec.sizes[label] for spec in self._own])
            result[label] = (np.arange(self.padded.sizes[label]) < own[:, None]).astype(np.float32)[:, None, :]
        return result

    def pack(
        self, networks: Sequence[Mapping[str, NDArray[np.float32]]], *, moments: bool = False
    ) -> NDArray[np.float32]:
        """Write K networks' parameters into one matrix (K, P), constants in padding, P numbers of a row.

        Args:
            networks: Parameters of each network by name, or optimiser moments.
            moments: Whether they are moments, which are 0 in padding.
        """
        flat = np.zeros((len(self.specs), self.width), np.float32) if moments else self.constants
        for row, places, params in zip(flat, self._where, networks, strict=True):
            for place in places:
                place.put(row, params[place.name])
        return flat

    def unpack(self, flat: NDArray[np.float32]) -> list[Params]:
        """Copy each network's parameters, without padding, out of the matrix that `pack` made."""
        return [self.unpack_row(k, row) for k, row in enumerate(flat)]

    def unpack_row(self, k: int, row: NDArray[np.float32]) -> Params:
        """Copy the parameters of network k, without padding, out of its row of the matrix."""
        return {place.name: place.copied(row) for place in self._where[k]}

    def views(self, flat: Array) -> dict[str, Array]:
        """Return the padded parameters of K networks by name, (K, *shape), as views of the matrix, numpy or torch."""
        views: dict[str, Array] = {}
        offset = 0
        for p in self.padded.parameters:
            views[p.name] = flat[:, offset : offset + p.size].reshape(flat.shape[0], *p.shape)
            offset += p.size
        return views
