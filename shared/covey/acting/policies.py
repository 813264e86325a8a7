"""Policies of one structure, run for all slots in one forward pass.

Groups of agents differ in what they see and do, not in the layers between; so inputs and outputs are padded to the
widest group's too, and one pass serves all groups. At an actor's sizes a pass costs by the number of its operations.
Dims: S slots, N agents of a group, K policies of a pack, B rows of each, W inputs and D outputs of an agent.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.acting.actions import ActionLayout
from covey.networks import MLP, NetworkSpec, NumpyOps, Params
from covey.networks.labels import positions
from covey.networks.ops import Array
from covey.networks.pack import PackLayout
from covey.observations import ObservationEncoding
from covey.policy_file import PolicySpec, decode_policy, policy_sha256
from covey.spaces import EnvironmentSpaces


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPolicy:
    """A policy that can act."""

    sha256: bytes
    spec: PolicySpec
    params: Params

    @staticmethod
    def decode(data: bytes) -> LoadedPolicy:
        """From a policy file.

        Raises:
            RefusedError, ConfigError: as `decode_policy`.
        """
        spec, params = decode_policy(data)
        return LoadedPolicy(policy_sha256(data), spec, params)


# Wider observations are not padded to, nor with, those of other groups: there the numbers would begin to cost.
MAX_PADDED_WIDTH = 256


@functools.lru_cache(maxsize=1024)
def widened(spec: NetworkSpec, width: int, outputs: int) -> NetworkSpec:
    """The same network with more inputs and outputs, as many as it has where it reads too much for that.

    Without its standard deviations: outputs do not depend on them, and so policies with both heads fit into a pass.
    """
    spec = replace(spec, log_std=None)
    (seen,) = spec.inputs
    if not isinstance(seen.encoder, MLP) or seen.width > MAX_PADDED_WIDTH:
        return spec
    return replace(spec, inputs=(replace(seen, width=width),), outputs=outputs)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a pack derives from its specs alone: weights change with every order, architectures seldom do."""

    padded: NetworkSpec
    valid: Mapping[str, NDArray[np.float32]]
    size: int
    indices: tuple[NDArray[np.intp] | None, ...]  # where each network's numbers go; None: they are all there are
    places: tuple[tuple[str, int, int, tuple[int, ...]], ...]  # name, start, stop, shape of each padded parameter


@functools.lru_cache(maxsize=8)
def _shape(specs: tuple[NetworkSpec, ...], width: int, outputs: int) -> _Shape:
    layout = PackLayout(tuple(widened(spec, width, outputs) for spec in specs))
    padded = layout.padded
    places, grids, start = [], [], 0
    for p in padded.parameters:
        grids.append(np.arange(start, start + p.size).reshape(p.shape))
        places.append((p.name, start, start + p.size, p.shape))
        start += p.size
    indices: list[NDArray[np.intp] | None] = []
    for spec in (replace(s, log_std=None) for s in specs):
        parts = []
        for own, wide, grid in zip(spec.parameters, padded.parameters, grids, strict=True):
            where = [positions(a, b) for a, b in zip(own.axes, wide.axes, strict=True)]
            parts.append(grid[np.ix_(*where)].ravel())
        index = np.concatenate(parts)
        indices.append(None if len(index) == start else index)
    return _Shape(padded, layout.valid(), start, tuple(indices), tuple(places))


class _PackOps(NumpyOps):
    """For vectors that are (K, 1, units) already."""

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        y = np.matmul(x, w)
        y += b
        return y

    def gate(self, g: Array, x: Array, y: Array) -> Array:
        return x + g * (y - x)


_OPS = _PackOps()
_KEPT_PACKS = 4


class ActingPack:
    """K policies of one structure, padded to the widest and stacked.

    Args:
        policies: May repeat; all of them with an indicator, or none.
        width: Inputs of the pack, at least those of every policy.
        outputs: Outputs of the pack, at least those of every policy.
    """

    def __init__(self, policies: Sequence[LoadedPolicy], width: int, outputs: int) -> None:
        shape = _shape(tuple(p.spec.network for p in policies), width, outputs)
        flat = np.zeros((len(policies), shape.size), np.float32)
        for row, index, policy in zip(flat, shape.indices, policies, strict=True):
            own = np.concatenate([policy.params[name].ravel() for name, *_ in shape.places])
            row[slice(None) if index is None else index] = own
        # Vectors as (K, 1, units), so that no layer has to make them so in every step.
        self._params = {
            name: flat[:, start:stop].reshape(len(flat), *((1, *size) if len(size) == 1 else size))
            for name, start, stop, size in shape.places
        }
        self._spec, self._valid = shape.padded, shape.valid
        self.width = self._spec.inputs[0].width
        self.indicated = policies[0].spec.indicator > 0

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (K, B, D) for observations (K, B, W)."""
        return self._spec.apply(_OPS, self._params, [x], valid=self._valid)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Part:
    """A group's share of a pass: policies `first` to `last` of the pack are its own.

    Padding repeats a policy's first row, on the way in and out.
    """

    group: int
    x: NDArray[np.float32]  # (k, B, width of an encoded observation), a view of the pass's inputs
    rows: NDArray[np.intp]  # (k, B) into the group's S * N rows
    first: int
    last: int
    slots: NDArray[np.intp]  # (k, B)
    agents: NDArray[np.intp]  # (k, B)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One forward pass of a plan."""

    pack: ActingPack
    x: NDArray[np.float32]  # (K, B, W), zero in padding; agents' indices are in it from the plan on
    parts: tuple[_Part, ...]


class PolicyRows:
    """Who plays which agent in which slot, and the passes that follow from it.

    A plan is made when that changes, once per order in the usual case; a step then is a forward pass for each
    structure, and a gather and a scatter for each group. Policies with fewer rows than others are padded.
    """

    def __init__(self, spaces: EnvironmentSpaces, layout: ActionLayout, slots: int) -> None:
        self._groups = spaces.groups
        self.outputs = np.zeros((slots, layout.width), np.float32)
        # (S, N, D) views of each group's columns.
        self._views = [self.outputs[:, g.columns].reshape(slots, g.agents, g.width) for g in layout.groups]
        self._widths = [g.observation.width for g in spaces.groups]
        encodings = [ObservationEncoding.of(g.observation) for g in spaces.groups]
        self._encodings = [None if e.plain else e for e in encodings]  # None: the assignment to float32 does it
        indicated = [w + len(g) for w, g in zip(self._widths, spaces.groups, strict=True)]
        # What policies are padded to, those without and those with an indicator.
        self._most_inputs = tuple(
            max((w for w in widths if w <= MAX_PADDED_WIDTH), default=1) for widths in (self._widths, indicated)
        )
        self._most_outputs = max(g.width for g in layout.groups)
        self._passes: list[_Pass] = []
        self._packs: dict[tuple[bytes, ...], ActingPack] = {}

    def plan(self, players: Mapping[int, Sequence[LoadedPolicy | None]]) -> None:
        """Fix who plays: slot to players in the environment's agent order."""
        # Who plays in each group, with the rows (slot, index in the group); then by structure, groups in their order.
        played: dict[tuple[int, bytes], tuple[LoadedPolicy, list[tuple[int, int]]]] = {}
        for g, group in enumerate(self._groups):
            for n, agent in enumerate(group.agents):
                for slot, who in players.items():
                    policy = who[agent]
                    if policy is not None:
                        played.setdefault((g, policy.sha256), (policy, []))[1].append((slot, n))
        structures: dict[object, dict[tuple[int, bytes], tuple[LoadedPolicy, list[tuple[int, int]]]]] = {}
        for key, entry in played.items():
            spec = entry[0].spec
            wide = widened(spec.network, self._most_inputs[spec.indicator > 0], self._most_outputs)
            structures.setdefault((wide.structure, spec.indicator > 0), {})[key] = entry
        self._passes = [self._plan_pass(entries) for entries in structures.values()]

    def _plan_pass(self, entries: Mapping[tuple[int, bytes], tuple[LoadedPolicy, list[tuple[int, int]]]]) -> _Pass:
        pack = self._pack([policy for policy, _ in entries.values()])
        most = max(len(rows) for _, rows in entries.values())
        # (K, B, 2)
        index = np.array([rows + rows[:1] * (most - len(rows)) for _, rows in entries.values()], np.intp)
        x = np.zeros((len(entries), most, pack.width), np.float32)
        groups = [g for g, _ in entries]
        parts = []
        for g in dict.fromkeys(groups):
            first = groups.index(g)
            last = first + groups.count(g)
            slots, agents = index[first:last, :, 0], index[first:last, :, 1]
            if pack.indicated:
                np.put_along_axis(x[first:last], (self._widths[g] + agents)[..., None], 1, -1)
            rows = slots * len(self._groups[g]) + agents
            parts.append(_Part(g, x[first:last, :, : self._widths[g]], rows, first, last, slots, agents))
        return _Pass(pack, x, tuple(parts))

    def forward(self, observation: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Raw outputs of all planned rows, (S, W) in the action layout; other rows keep what they held.

        Args:
            observation: One (S, N, *shape) per group.
        """
        # OpenBLAS's matrix-vector products may flag what they read past the end of a row as invalid, and not use it.
        with np.errstate(invalid="ignore"):
            for p in self._passes:
                for part in p.parts:
                    seen = observation[part.group]
                    rows = seen.reshape(seen.shape[0] * seen.shape[1], -1)[part.rows]
                    encoding = self._encodings[part.group]
                    part.x[...] = rows if encoding is None else encoding.encode(rows)
                y = p.pack(p.x)
                for part in p.parts:
                    view = self._views[part.group]
                    view[part.slots, part.agents] = y[part.first : part.last, :, : view.shape[-1]]
        return self.outputs

    def _pack(self, policies: Sequence[LoadedPolicy]) -> ActingPack:
        """The pack of these policies, kept from plan to plan: evaluations and pinned opponents use theirs again."""
        key = tuple(p.sha256 for p in policies)
        pack = self._packs.pop(key, None) or ActingPack(
            policies, self._most_inputs[policies[0].spec.indicator > 0], self._most_outputs
        )
        self._packs[key] = pack
        while len(self._packs) > _KEPT_PACKS:
            del self._packs[next(iter(self._packs))]
        return pack
