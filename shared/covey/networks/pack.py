"""Packs: networks of one structure and differing sizes, zero-padded to the widest and stacked.

Dims: K networks, P numbers of the padded network. All parameters of a pack lie in one matrix (K, P), so that an
optimiser step, a soft update or a copy is a handful of operations whatever the number of layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from covey.networks.labels import positions
from covey.networks.network import NetworkSpec, Params
from covey.networks.ops import Array


def widened(specs: Sequence[NetworkSpec]) -> tuple[NetworkSpec, ...]:
    """The same networks of one input with as many numbers in and out as any of them, and `log_std` if any has one."""
    width = max(spec.inputs[0].width for spec in specs)
    outputs = max(spec.outputs for spec in specs)
    log_std = 0.0 if any(spec.log_std is not None for spec in specs) else None
    return tuple(
        replace(spec, inputs=(replace(spec.inputs[0], width=width),), outputs=outputs, log_std=log_std)
        for spec in specs
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
    def padded(self) -> NetworkSpec:
        """The structure at the widest size of every label."""
        first, *rest = self.wide or self.specs
        sizes = dict(first.sizes)
        for spec in rest:
            if spec.structure != first.structure:
                raise ValueError("networks of different structure cannot share a pack")
            sizes = {label: max(size, spec.sizes[label]) for label, size in sizes.items()}
        return first.resized(sizes)

    @cached_property
    def width(self) -> int:
        """P: numbers of the padded network."""
        return sum(p.size for p in self.padded.parameters)

    @cached_property
    def _index(self) -> tuple[NDArray[np.intp] | None, ...]:
        """Per network, where its own numbers lie among the P, in parameter order; None where they are all of them."""
        places, offset = {}, 0
        for p in self.padded.parameters:
            places[p.name] = (p.axes, np.arange(offset, offset + p.size).reshape(p.shape))
            offset += p.size
        result: list[NDArray[np.intp] | None] = []
        for spec in self.specs:
            if sum(p.size for p in spec.parameters) == offset:
                result.append(None)
                continue
            parts = []
            for own in spec.parameters:
                axes, grid = places[own.name]
                where = [positions(a, b) for a, b in zip(own.axes, axes, strict=True)]
                parts.append(grid[np.ix_(*where)].ravel())
            result.append(np.concatenate(parts))
        return tuple(result)

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
            own = np.array([spec.sizes[label] for spec in self.specs])
            if (own < width).any():
                result[label] = (np.arange(width) < own[:, None]).astype(np.float32)[:, None, :]
        return result

    def pack(self, networks: Sequence[Mapping[str, NDArray[np.float32]]]) -> NDArray[np.float32]:
        """Natural parameters (or moments) of the K networks as one (K, P) matrix, zero in padding."""
        flat = np.zeros((len(self.specs), self.width), np.float32)
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
