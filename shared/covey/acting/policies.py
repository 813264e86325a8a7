"""Runs many policies on the observations of all environments in few batched forward passes.

Policies of one structure share a pass, padded to the largest. Groups of agents differ in what they see and do, not in
the layers between; so inputs and outputs are padded to the widest group's too, and one pass serves all groups. At an
actor's sizes a pass costs by the number of its operations, not by the numbers in them.
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
from covey.acting.loaded import LoadedPolicy
from covey.acting.normalised import Normalised
from covey.acting.states import AgentStates
from covey.acting.tape import Recomputed, Tape
from covey.networks import MLP, NetworkSpec
from covey.networks.encoders import is_foreign
from covey.networks.ops import Activation, Ops
from covey.networks.pack import PackLayout, grouped, layer_activations, padded
from covey.observations import ObservationEncoding
from covey.spaces import EnvironmentSpaces

MAX_PADDED_WIDTH = 256
"""Inputs up to which groups are padded to each other: beyond, the numbers cost more than a further pass."""


@functools.lru_cache(maxsize=1024)
def widened(spec: NetworkSpec, width: int, outputs: int) -> NetworkSpec:
    """Widen a network's inputs and outputs to those that it is padded to, unless it reads too much for that.

    Standard deviations are left out, as outputs do not depend on them: all kinds of policy can then run in one batch.
    """
    spec = replace(spec, log_std=None)
    (seen,) = spec.inputs
    if not isinstance(seen.encoder, MLP) or seen.width > MAX_PADDED_WIDTH:
        return spec
    return replace(spec, inputs=(replace(seen, width=width),), outputs=outputs)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What stacked policies have that follows from their architectures alone, kept as weights change more often.

    Attributes:
        layout: Where each parameter lies in the pack.
        valid: As `PackLayout.valid` gives it.
        activations: As `PackLayout.activations` gives them.
    """

    layout: PackLayout
    valid: Mapping[str, NDArray[np.float32]]
    activations: Mapping[str, Activation]


@functools.lru_cache(maxsize=6)
def _shape(specs: tuple[NetworkSpec, ...], width: int, outputs: int) -> _Shape:
    own = tuple(replace(spec, log_std=None) for spec in specs)
    layout = PackLayout(own, padded([widened(spec, width, outputs) for spec in specs]))
    return _Shape(layout, layout.valid(), layout.activations(range(len(specs))))


@functools.lru_cache(maxsize=8)
def _grouped(specs: tuple[NetworkSpec, ...], width: int, outputs: int) -> list[list[int]]:
    return grouped([widened(spec, width, outputs) for spec in specs], PASS_COST)


PASS_COST = 100_000
"""Multiplications for padding that take as long, in one step, as a further pass."""

_KEPT_PACKS = 8

_KEPT_BYTES = 16 << 20
"""Bytes of packs beyond which only the one in use is kept: older versions of large policies are not worth it."""


class ActingPack:
    """K policies padded to one architecture and stacked, for one forward pass.

    Args:
        policies: May repeat; all of them with an indicator, or none.
        width: Inputs of the pack, at least those of every policy.
        outputs: Outputs of the pack, at least those of every policy.

    Attributes:
        width: Inputs of the pack.
        indicated: Whether the policies read an indicator.
        foreign: Whether an encoder is of a kind that a package has installed.
    """

    def __init__(self, policies: Sequence[LoadedPolicy], width: int, outputs: int) -> None:
        shape = _shape(tuple(p.spec.network for p in policies), width, outputs)
        matrix = shape.layout.pack([policy.params for policy in policies])
        self.bytes = matrix.nbytes
        self._params = shape.layout.views(matrix)
        self._spec, self._valid, self._activations = shape.layout.padded, shape.valid, shape.activations
        self.width = self._spec.inputs[0].width
        self.indicated = policies[0].spec.indicator > 0
        self.state_size = self._spec.state_size
        self.foreign = any(is_foreign(i.encoder) for i in self._spec.inputs)

    def apply(self, ops: Ops, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the stacked policies' outputs from (policies, samples, inputs): (policies, samples, outputs)."""
        return self._spec.apply(  # type: ignore[no-any-return]
            ops, self._params, [x], valid=self._valid, activations=self._activations
        )

    def step(
        self, ops: Ops, x: NDArray[np.float32], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute the outputs of stacked policies with memory, and the states (policies, samples, H) after them."""
        return self._spec.step(ops, self._params, x, state, valid=self._valid, activations=self._activations)


@dataclass(frozen=True, slots=True)
class _GroupRows:
    """The k stacked policies that play agents of one group, and their inputs, B observations for each policy.

    S environments, N agents of the group.
    """

    group: int
    x: NDArray[np.float32]  # (k, B, width of an encoded observation), a view of the pass's inputs
    rows: NDArray[np.intp]  # (k, B) into the group's S * N rows; padding repeats a policy's first row
    normalise: Normalised | None  # of x, where a policy reads normalised observations


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The states of agents that policies with memory play in one pass, and where they lie.

    Attributes:
        before: (k, B, H), which the pass reads.
        rows: (k, B), whose they are; padding repeats a policy's first one.
        after: (R, H), a view of the states after the pass.
        places: Which of these belong to an agent, and whose they are: no padding.
        owners: (R,) likewise.
    """

    before: NDArray[np.float32]
    rows: NDArray[np.intp]
    after: NDArray[np.float32]
    places: NDArray[np.intp]
    owners: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Pass:
    """One batched forward pass of several stacked policies, with the places of its inputs and outputs in memory."""

    groups: tuple[_GroupRows, ...]
    tape: Tape | Recomputed
    y: NDArray[np.float32]  # (K * B * D,), where the tape leaves the outputs
    target: slice
    remembered: _Remembered | None


class PolicyRows:
    """Knows which policy plays which agent in which environment, and runs them all in few forward passes.

    A plan is made when that changes, usually once per order. A step then is a gather of observations for each group, a
    forward pass for each pack, and one gather of all outputs. Policies with fewer rows than others are padded.

    Args:
        spaces: Spaces of the environment.
        layout: Where outputs go.
        states: What agents remember, where policies have memory; None: states of their own.
    """

    def __init__(self, spaces: EnvironmentSpaces, layout: ActionLayout, states: AgentStates | None = None) -> None:
        self._groups = spaces.groups
        self.states = AgentStates(spaces, layout.slots) if states is None else states
        self._first_column = np.cumsum([0, *(len(g) for g in spaces.groups)]).tolist()
        self._layout = layout
        self._outputs = np.zeros((layout.slots, layout.width), np.float32)
        self._widths = [g.stacked.width for g in spaces.groups]
        encodings = [ObservationEncoding.of(g.stacked) for g in spaces.groups]
        self._encodings = [None if e.plain else e for e in encodings]  # None: the assignment to float32 does it
        indicated = [w + len(g) for w, g in zip(self._widths, spaces.groups, strict=True)]
        # Inputs that policies are padded to: those without an indicator of the agent, and those with one.
        self._most_inputs = tuple(
            max((w for w in widths if w <= MAX_PADDED_WIDTH), default=1) for widths in (self._widths, indicated)
        )
        self._most_outputs = max(g.action.width for g in spaces.groups)
        self._passes: list[_Pass] = []
        # Outputs of all passes, one after another behind a single 0, and for each place among the outputs (S, W) the
        # position of its number there; 0, and so the number 0, where no policy plays.
        self._results = np.zeros(1, np.float32)
        self._source = np.zeros((layout.slots, layout.width), np.intp)
        # Likewise of the log standard deviations that squashed policies give for numbers of a Box.
        self._log_std_source = np.zeros((layout.slots, layout.box_width), np.intp)
        self._packs: dict[tuple[int, tuple[bytes, ...]], ActingPack] = {}

    def plan(self, players: Mapping[int, Sequence[LoadedPolicy | None]]) -> None:
        """Prepare the forward passes for the given policies, which stay the same for many env steps.

        Args:
            players: For each one stepped, the policies of its agents in environment order; None plays at random.
        """
        # By group and policy: the policy, and the rows (slot, index in the group) that it decides, groups in order.
        played: dict[tuple[int, bytes], tuple[LoadedPolicy, list[tuple[int, int]]]] = {}
        for g, group in enumerate(self._groups):
            for n, agent in enumerate(group.agents):
                for slot, who in players.items():
                    policy = who[agent]
                    if policy is not None:
                        played.setdefault((g, policy.sha256), (policy, []))[1].append((slot, n))
        if self.states.any or any(policy.spec.network.state_size for policy, _ in played.values()):
            for slot, who in players.items():
                self.states.assign(slot, who)
        self._source[...] = 0
        self._log_std_source[...] = 0
        self._passes, self._results = [], np.zeros(1, np.float32)
        # Squashed policies have two outputs for each number of an action.
        outputs = max([self._most_outputs, *(policy.spec.network.outputs for policy, _ in played.values())])
        for indicated in (False, True):
            alike = [key for key, (policy, _) in played.items() if (policy.spec.indicator > 0) == indicated]
            # Policies of one activation stand side by side: the activation of neighbours is one call.
            alike.sort(key=lambda key: (key[0], layer_activations(played[key][0].spec.network)))
            specs = tuple(played[key][0].spec.network for key in alike)
            for taken in _grouped(specs, self._most_inputs[indicated], outputs):
                self._passes.append(self._plan_pass({alike[i]: played[alike[i]] for i in taken}, outputs))

    def _plan_pass(
        self, entries: Mapping[tuple[int, bytes], tuple[LoadedPolicy, list[tuple[int, int]]]], outputs: int
    ) -> _Pass:
        """Prepare one forward pass of these policies, each with the agents and environments that it plays."""
        pack = self._pack([policy for policy, _ in entries.values()], outputs)
        most = max(len(rows) for _, rows in entries.values())
        # (K, B, 2): slot and index in the group; a policy with fewer rows repeats its first one.
        index = np.array([rows + rows[:1] * (most - len(rows)) for _, rows in entries.values()], np.intp)
        x = np.zeros((len(entries), most, pack.width), np.float32)
        groups = [g for g, _ in entries]
        described = [(policy.spec, policy.params) for policy, _ in entries.values()]
        spans = []
        for g in dict.fromkeys(groups):
            its = slice(groups.index(g), groups.index(g) + groups.count(g))
            if pack.indicated:  # the agent's index in its group, one-hot behind the observation
                np.put_along_axis(x[its], (self._widths[g] + index[its, :, 1])[..., None], 1, -1)
            spans.append((g, its))
        tape = Tape()
        remembered = None
        if pack.state_size:
            first = np.array([self._first_column[g] for g in groups])[:, None]
            rows = index[..., 0] * self._first_column[-1] + first + index[..., 1]
            before = np.zeros((*rows.shape, pack.state_size), np.float32)
            y, after = pack.step(tape, x, before)
            counts = np.array([len(its) for _, its in entries.values()])
            real = np.flatnonzero((np.arange(most) < counts[:, None]).reshape(-1))
            after = after.reshape(-1, pack.state_size)
            remembered = _Remembered(before, rows, after, real, rows.reshape(-1)[real])
        else:
            y = pack.apply(tape, x)
        computed = Recomputed(pack.apply, x, y) if pack.foreign else tape
        start = len(self._results)
        self._results = np.zeros(start + y.size, np.float32)
        places = np.arange(start, start + y.size).reshape(y.shape)
        group_rows = []
        for g, its in spans:
            slots, agents = index[its, :, 0], index[its, :, 1]
            for out in self._layout.leaves:
                if out.group == g:
                    # Where the outputs of these rows for a leaf go: a view of the leaf's columns, (S, N, D).
                    view = self._source[:, out.columns].reshape(len(self._source), len(out.agents), out.width)
                    view[slots, agents] = places[its, :, out.outputs]
                    for k in range(its.start, its.stop):
                        if described[k][0].head == "squashed":
                            view = self._log_std_source[:, out.columns].reshape(view.shape)
                            view[slots[k - its.start], agents[k - its.start]] = places[k][:, out.log_stds]
            seen = x[its, :, : self._widths[g]]
            normalise = Normalised(described[its], seen) if any(spec.normalized for spec, _ in described[its]) else None
            group_rows.append(_GroupRows(g, seen, slots * len(self._groups[g]) + agents, normalise))
        return _Pass(tuple(group_rows), computed, y.reshape(-1), slice(start, start + y.size), remembered)

    def forward(self, observation: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Run all policies; returns (environments, outputs of all agents), zeros where no policy plays.

        Each group's observations, or stacks of them, are (S, N, *shape) for S environments and N agents of the group.

        Args:
            observation: One (S, N, *shape) per group.

        Returns:
            An array that the next call overwrites.
        """
        for p in self._passes:
            for g in p.groups:
                seen = observation[g.group]
                rows = seen.reshape(seen.shape[0] * seen.shape[1], -1).take(g.rows, axis=0)
                encoding = self._encodings[g.group]
                g.x[...] = rows if encoding is None else encoding.encode(rows)
                if g.normalise is not None:
                    g.normalise()
            if (own := p.remembered) is None:
                p.tape.replay()
            else:
                self.states.take(own.rows, own.before)
                p.tape.replay()
                self.states.put(own.owners, own.after[own.places])
            self._results[p.target] = p.y
        return self._results.take(self._source, out=self._outputs, mode="clip")  # other modes copy before they write

    def log_std(self) -> NDArray[np.float32]:
        """Return the log standard deviations that squashed policies gave in the last `forward`.

        The shape is (environments, numbers of all agents' Box actions); zeros where other policies play.
        """
        return self._results.take(self._log_std_source)

    def _pack(self, policies: Sequence[LoadedPolicy], outputs: int) -> ActingPack:
        """Return these policies stacked; the stacks used last are kept, as they are often needed again."""
        key = outputs, tuple(p.sha256 for p in policies)
        pack = self._packs.pop(key, None) or ActingPack(
            policies, self._most_inputs[policies[0].spec.indicator > 0], outputs
        )
        self._packs[key] = pack
        while len(self._packs) > 1 and (
            len(self._packs) > _KEPT_PACKS or sum(its.bytes for its in self._packs.values()) > _KEPT_BYTES
        ):
            del self._packs[next(iter(self._packs))]
        return pack
