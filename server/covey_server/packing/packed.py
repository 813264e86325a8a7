"""Packed networks: all networks of one role, over all members, in few batched passes.

Networks of equal structure share a pack, whatever member, agent or twin they belong to, unless padding would cost more
than a pass. A `Selection` is the part of the packs that one pass works on.

Dims: M members of a pass, B samples, J agents judged, summed over the networks (an agent counts once per twin).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.networks.pack import grouped, layer_activations, widened
from covey_server.member import Member
from covey_server.packing.pack import Pack, PackRows, Source

PASS_COST = {"cpu": 25_000, "cuda": 10_000_000}
"""How many numbers of padding an update carries in the time of a further pack: measured at batches of 24 to 72 on the
CPU, reckoned from the time that launches take on a GPU."""


class PackedNetworks:
    """All networks of one role.

    Args:
        members: The population; the networks are those in `Member.networks`.
        agents: Network key ("actor/speaker_0") to the indices of the agents it plays or judges, in a fixed order.
        device: Where the packs live.
        widen: Whether networks that differ only in their inputs and outputs share a pack as well.
        multiple: Of what layers' sizes are padded to, so that few mutations change a pack's shape.
        samples: How many each member learns from; a pack need not compute more. None: all that it is given.
    """

    def __init__(
        self,
        members: Sequence[Member],
        agents: Mapping[str, tuple[int, ...]],
        device: torch.device,
        *,
        widen: bool = False,
        multiple: int = 1,
        samples: Sequence[int] | None = None,
    ) -> None:
        self.samples = samples
        self.keys = tuple(agents)
        self.agents = tuple(agents.values())
        self.device = device
        rows = [(k, m) for k in range(len(self.keys)) for m in range(len(members))]
        networks = {(k, m): members[m].networks[self.keys[k]] for k, m in rows}
        specs = [networks[row].spec for row in rows]
        forms = [
            spec.resized({label: -(-n // multiple) * multiple for label, n in spec.sizes.items()}) for spec in specs
        ]
        wide = dict(zip(rows, widened(forms) if widen else forms, strict=True))
        roles = [key.partition("/")[0] for key in self.keys]

        def place(row: tuple[int, int]) -> tuple[object, ...]:
            """Role by role, as passes take them; in each, rows of one activation are neighbours."""
            return roles.index(roles[row[0]]), layer_activations(networks[row].spec), row

        self.packs = []
        for count in sorted({len(its) for its in self.agents}):
            alike = [row for row in rows if len(self.agents[row[0]]) == count]
            for taken in grouped([wide[row] for row in alike], PASS_COST[device.type]):
                own = sorted((alike[i] for i in taken), key=place)
                self.packs.append(Pack(own, [networks[row] for row in own], count, device, [wide[row] for row in own]))
        self._selections: dict[tuple[tuple[int, ...], int], Selection] = {}

    def select(self, members: tuple[int, ...], keys: int | None = None) -> Selection:
        """The networks of these members (ascending positions), of the first `keys` keys only where given."""
        keys = len(self.keys) if keys is None else keys
        if (members, keys) not in self._selections:
            if len(self._selections) >= 64:
                self._selections.clear()
            self._selections[members, keys] = Selection(self, members, keys)
        return self._selections[members, keys]

    def unpack(self) -> None:
        """Write everything back into the members."""
        for pack in self.packs:
            pack.unpack()


@dataclass(frozen=True, eq=False, slots=True)
class Assembly:
    """How outputs of one width are put together.

    Attributes:
        parts: That give them.
        index: Where in the parts' rows, one part after the other, each agent's of each member is; None: in order.
        inverse: Where each of the parts' rows went.
        agents: Whose the outputs are, and their own widths.
    """

    parts: list[PackRows]
    index: Tensor | None
    inverse: Tensor | None
    agents: list[tuple[int, int]]

    def forward(self, rows: Sequence[Tensor], members: int) -> Tensor:
        """(agents, M, B, O) from the parts' (rows, B, O)."""
        x = rows[0] if len(rows) == 1 else torch.cat(list(rows))
        if self.index is not None:
            x = x.index_select(0, self.index)
        return x.view(len(self.agents), members, *x.shape[1:])

    def back(self, x: Tensor) -> Sequence[Tensor]:
        """The inverse of `forward`."""
        rows = x.flatten(0, 1)
        if self.inverse is not None:
            rows = rows.index_select(0, self.inverse)
        counts = [part.count * part.pack.agents for part in self.parts]
        return rows.split_with_sizes(counts)


class Selection:
    """The networks that one pass works on: some members', all keys or the first of them; `parts`, a pack each."""

    def __init__(self, owner: PackedNetworks, members: tuple[int, ...], keys: int) -> None:
        chosen = set(members)
        self.parts: list[PackRows] = []
        for pack in owner.packs:
            taken = [r for r, (k, m) in enumerate(pack.rows) if m in chosen and k < keys]
            if taken:
                self.parts.append(PackRows(pack, taken, owner.agents, members, owner.samples))
        self._members = len(members)
        self._assembly = self._assemble(owner, members, keys)

    @property
    def rows_members(self) -> list[int]:
        """For each batched pass that a forward takes, the number of distinct members in it."""
        return [part.distinct_members for part in self.parts]

    def _assemble(self, owner: PackedNetworks, members: tuple[int, ...], keys: int) -> list[Assembly]:
        """One per output width."""
        by_width: dict[int, list[int]] = {}
        for p, part in enumerate(self.parts):
            by_width.setdefault(part.pack.spec.outputs, []).append(p)
        assembly = []
        for parts in by_width.values():
            given = [
                (k, j, m) for p in parts for k, m in self.parts[p].owners for j in range(self.parts[p].pack.agents)
            ]
            wanted = [
                (k, j, m)
                for k in sorted({k for k, _, _ in given})
                for j in range(len(owner.agents[k]))
                for m in members
            ]
            at = {judged: i for i, judged in enumerate(given)}
            order = [at[w] for w in wanted]
            index = inverse = None
            if order != list(range(len(order))):
                index = torch.tensor(order, device=owner.device)
                inverse = torch.tensor(np.argsort(order), device=owner.device)
            own = {
                k: network.spec.outputs
                for p in parts
                for (k, _), network in zip(self.parts[p].pack.rows, self.parts[p].pack.networks, strict=True)
            }
            agents = [(owner.agents[k][j], own[k]) for k, j, m in wanted if m == members[0]]
            assembly.append(Assembly([self.parts[p] for p in parts], index, inverse, agents))
        return assembly

    def values(self, which: str, inputs: Sequence[Source], extra: Source) -> Tensor:
        """What critics say: (J, M, B), networks in the order of their keys, each for its agents in turn."""
        (critics,) = self._assembly
        return critics.forward([part.apply(which, inputs, extra) for part in critics.parts], self._members).squeeze(-1)

    def slopes(self, pull: Tensor) -> Tensor:
        """Of the extra inputs, (J, M, B, E), as each network of the last "frozen" `values` sees them.

        Args:
            pull: Gradient of a loss with respect to the values, (J, M, B).
        """
        (critics,) = self._assembly
        pulls = critics.back(pull.unsqueeze(-1))
        slopes = [part.slope(own) for part, own in zip(critics.parts, pulls, strict=True)]
        return critics.forward(slopes, self._members)

    def by_agent(self, which: str, inputs: Sequence[Source]) -> list[Tensor]:
        """What actors say: per agent in environment order (M, B, outputs)."""
        found: dict[int, Tensor] = {}
        for actors in self._assembly:
            outputs = actors.forward([part.apply(which, inputs, None) for part in actors.parts], self._members)
            found |= {agent: y[..., :width] for (agent, width), y in zip(actors.agents, outputs, strict=True)}
        return [found[agent] for agent in sorted(found)]

    def value_gradients(self, pull: Tensor) -> list[Tensor]:
        """What the last "learn" `values` changes of a loss: (K, P) of each part.

        Args:
            pull: Gradient of the loss with respect to the values, (J, M, B).
        """
        (critics,) = self._assembly
        return [part.gradient(own) for part, own in zip(critics.parts, critics.back(pull.unsqueeze(-1)), strict=True)]

    def agent_gradients(self, pulls: Sequence[Tensor]) -> list[Tensor]:
        """What the last "learn" `by_agent` changes of a loss: (K, P) of each part.

        Args:
            pulls: Gradient of the loss with respect to each agent's outputs, (M, B, outputs).
        """
        found: dict[int, Tensor] = {}
        for actors in self._assembly:
            own = [pulls[agent] for agent, _ in actors.agents]
            joint = own[0].new_zeros(len(own), *own[0].shape[:-1], actors.parts[0].pack.spec.outputs)
            for rows, pull in zip(joint, own, strict=True):
                rows[..., : pull.shape[-1]] = pull
            for part, rows in zip(actors.parts, actors.back(joint), strict=True):
                found[self.parts.index(part)] = part.gradient(rows)
        return [found[p] for p in sorted(found)]

    def count_steps(self) -> tuple[tuple[bool, ...], ...]:
        """What the host knows of an Adam step; equal for steps that are alike."""
        for part in self.parts:
            part.count_steps()
        return tuple(part.pattern() for part in self.parts)

    def move(self, gradients: Sequence[Tensor], lr: NDArray[np.float64], max_norm: float | None) -> None:
        """What the device does in one.

        Args:
            gradients: (K, P) of each part.
            lr: (M,) learning rates.
            max_norm: Bound of each network's gradient norm; None: no bound.
        """
        for part, gradient in zip(self.parts, gradients, strict=True):
            part.move(gradient, lr, max_norm)

    def soften(self, tau: Tensor) -> None:
        """Polyak averaging of the targets: target += tau * (params - target), tau (M,)."""
        for part in self.parts:
            part.soften(tau)
