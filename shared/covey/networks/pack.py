"""Packs: networks of one structure and differing sizes, depths and activations, stacked.

Widths are zero-padded to the widest. Depths are made equal by layers that pass what comes in: an identity weight, and
no activation, or one that changes nothing. Where only some have a gate, the others' is 1. None of that is a parameter:
masks keep it as it is, and `unpack` leaves it out.

Dims: K networks, P numbers of the padded network. All parameters of a pack lie in one matrix (K, P), so that an
optimiser step, a soft update or a copy is a handful of operations whatever the number of layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray

from covey.networks.labels import Axis, ParamSpec, positions
from covey.networks.network import NetworkSpec, Params
from covey.networks.ops import Activation, Array
from covey.networks.resize import get_part, parts, with_part


def widened(specs: Sequence[NetworkSpec]) -> tuple[NetworkSpec, ...]:
    """The same networks of one input with as many numbers in and out as any of them, and `log_std` if any has one."""
    width = max(spec.inputs[0].width for spec in specs)
    outputs = max(spec.outputs for spec in specs)
    log_std = 0.0 if any(spec.log_std is not None for spec in specs) else None
    return tuple(
        replace(spec, inputs=(replace(spec.inputs[0], width=width),), outputs=outputs, log_std=log_std)
        for spec in specs
    )


def aligned(specs: Sequence[NetworkSpec]) -> tuple[NetworkSpec, ...]:
    """The same networks of one structure with as many layers as any of them, gated where any of them is."""
    result = specs
    for part in parts(specs[0]):
        mlps = [get_part(spec, part) for spec in specs]
        layers = max(len(mlp.hidden_size) for mlp in mlps)
        gated = tuple(sorted({i for mlp in mlps for i in mlp.gated}))
        if any(len(mlp.hidden_size) < layers or mlp.gated != gated for mlp in mlps):
            result = [with_part(spec, part, mlp.aligned(layers, gated)) for spec, mlp in zip(result, mlps, strict=True)]
    return tuple(result)


def padded(specs: Sequence[NetworkSpec]) -> NetworkSpec:
    """What networks of one structure are padded to: the deepest, and the widest in every label."""
    first, *rest = aligned(specs)
    sizes = dict(first.sizes)
    for spec in rest:
        sizes = {label: max(size, spec.sizes[label]) for label, size in sizes.items()}
    return first.resized(sizes)


def grouped(specs: Sequence[NetworkSpec], pass_cost: int) -> list[list[int]]:
    """Which networks to pack together: a pass less is worth `pass_cost` numbers of padding.

    From a pack for each architecture on, the two packs of one structure are joined that save most, as long as any do.

    Returns:
        Positions in `specs`, rising in every pack.
    """
    alike: dict[NetworkSpec, list[int]] = {}
    for i, spec in enumerate(specs):
        alike.setdefault(spec, []).append(i)
    packs = dict(enumerate(alike.items()))
    joins: dict[tuple[int, int], tuple[int, NetworkSpec]] = {}

    def compare(a: int, b: int) -> None:
        (one, its), (other, others) = packs[a], packs[b]
        if one.structure == other.structure:
            joint = padded([one, other])
            apart = one.numbers * len(its) + other.numbers * len(others)
            joins[a, b] = (pass_cost + apart - joint.numbers * (len(its) + len(others)), joint)

    for a, b in combinations(packs, 2):
        compare(a, b)
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
    """Equal for networks that do the same in all layers of any pack: rows in its order make few runs."""
    return tuple(
        (mlp.activation, 0 if mlp.repeatable else len(mlp.hidden_size))
        for mlp in (get_part(spec, part) for part in parts(spec))
    )


@dataclass(frozen=True)
class PackLayout:
    """Where each parameter of K networks lies in the (K, P) matrix.

    Networks of different structure share a pack where `wide` gives them, one for one, forms that are of one structure
    and have room for all their parameters, as `widened` makes them.
    """

    specs: tuple[NetworkSpec, ...]
    wide: tuple[NetworkSpec, ...] | None = None

    @cached_property
    def _own(self) -> tuple[NetworkSpec, ...]:
        """The networks with the layers and gates that the pack adds."""
        return aligned(self.specs)

    @cached_property
    def padded(self) -> NetworkSpec:
        """The structure at the deepest, and at the widest size of every label."""
        wide = self.wide or self.specs
        if any(spec.structure != wide[0].structure for spec in wide):
            raise ValueError("networks of different structure cannot share a pack")
        return padded(wide)

    @cached_property
    def width(self) -> int:
        """P: numbers of the padded network."""
        return self.padded.numbers

    @cached_property
    def _places(self) -> dict[str, tuple[tuple[Axis, ...], NDArray[np.intp]]]:
        """The axes of each padded parameter, and where its numbers lie among the P."""
        places, offset = {}, 0
        for p in self.padded.parameters:
            places[p.name] = (p.axes, np.arange(offset, offset + p.size).reshape(p.shape))
            offset += p.size
        return places

    def _where(self, p: ParamSpec) -> NDArray[np.intp]:
        """Where the numbers of a network's own parameter lie among the P, in its shape."""
        axes, grid = self._places[p.name]
        return grid[np.ix_(*(positions(a, b) for a, b in zip(p.axes, axes, strict=True)))]

    @cached_property
    def _index(self) -> tuple[NDArray[np.intp] | None, ...]:
        """Per network, where its own numbers lie among the P, in parameter order; None where they are all of them."""
        result: list[NDArray[np.intp] | None] = []
        for spec, own in zip(self.specs, self._own, strict=True):
            if spec.numbers == self.width:
                result.append(None)
                continue
            # Axes as the deeper form has them: what follows a pass-through layer reads its units.
            axes = {p.name: p for p in own.parameters}
            result.append(np.concatenate([self._where(axes[p.name]).ravel() for p in spec.parameters]))
        return tuple(result)

    @cached_property
    def constants(self) -> NDArray[np.float32]:
        """(K, P): identity weights and gates of 1 where a network has no such layer or gate, 0 elsewhere."""
        constants = np.zeros((len(self.specs), self.width), np.float32)
        for row, spec, own in zip(constants, self.specs, self._own, strict=True):
            has = {p.name for p in spec.parameters}
            for p in own.parameters:
                if p.name in has:
                    continue
                if p.inputs:
                    row[self._where(p).diagonal()] = 1
                elif p.name.endswith(".gate"):
                    row[self._where(p)] = 1
        return constants

    def activations(self, rows: Sequence[int]) -> dict[str, Activation]:
        """Activations of these networks, by layer, where they are not all those of `padded`."""
        result: dict[str, Activation] = {}
        for part in parts(self.padded):
            padded, own = get_part(self.padded, part), [get_part(self.specs[row], part) for row in rows]
            names = {f"{part}.{i}": [mlp.layer_activation(i) for mlp in own] for i in range(len(padded.hidden_size))}
            names[f"{part}.out"] = [mlp.activation for mlp in own]
            for layer, its in names.items():
                runs = tuple((name, len(list(run))) for name, run in groupby(its))
                if len(runs) > 1:
                    result[layer] = runs
                elif its[0] != padded.activation:
                    result[layer] = its[0]
        return result

    @cached_property
    def mask(self) -> NDArray[np.float32]:
        """(K, P): 1 where a network has a parameter, 0 in padding."""
        mask = np.zeros((len(self.specs), self.width), np.float32)
        for row, index in zip(mask, self._index, strict=True):
            row[slice(None) if index is None else index] = 1
        return mask

    def valid(self) -> dict[str, NDArray[np.float32]]:
        """Validity of units, (K, 1, units), for the labels that have padding."""
        result = {}
        for label, width in self.padded.sizes.items():
            own = np.array([spec.sizes[label] for spec in self._own])
            if (own < width).any():
                result[label] = (np.arange(width) < own[:, None]).astype(np.float32)[:, None, :]
        return result

    def pack(
        self, networks: Sequence[Mapping[str, NDArray[np.float32]]], *, moments: bool = False
    ) -> NDArray[np.float32]:
        """Natural parameters of the K networks as one (K, P) matrix, `constants` in padding; or moments, zero there."""
        flat = np.zeros_like(self.constants) if moments else self.constants.copy()
        for row, index, spec, params in zip(flat, self._index, self.specs, networks, strict=True):
            own = np.concatenate([params[p.name].ravel() for p in spec.parameters])
            row[slice(None) if index is None else index] = own
        return flat

    def unpack(self, flat: NDArray[np.float32]) -> list[Params]:
        """Inverse of `pack`: copies in natural shapes."""
        return [self.unpack_row(k, row) for k, row in enumerate(flat)]

    def unpack_row(self, k: int, row: NDArray[np.float32]) -> Params:
        """Parameters of network k from its row of the matrix."""
        index = self._index[k]
        own = row.copy() if index is None else row[index]
        params: Params = {}
        offset = 0
        for p in self.specs[k].parameters:
            params[p.name] = own[offset : offset + p.size].reshape(p.shape)
            offset += p.size
        return params

    def views(self, flat: Array) -> dict[str, Array]:
        """Padded parameters (K, *shape) as views of the matrix, numpy or torch."""
        views: dict[str, Array] = {}
        offset = 0
        for p in self.padded.parameters:
            views[p.name] = flat[:, offset : offset + p.size].reshape(flat.shape[0], *p.shape)
            offset += p.size
        return views
