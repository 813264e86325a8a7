"""Packed networks: all networks of one role, over all members, in as few batched passes as their structures allow.

Networks of equal structure share a pack, whatever member, agent or twin they belong to. A `Selection` is the part of
the packs that one pass works on.

Dims: M members of a pass, B samples, J agents judged, summed over the networks (an agent counts once per twin).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.networks.pack import widened
from covey_server.member import Member
from covey_server.pack import Pack, PackRows, Source


class PackedNetworks:
    """All networks of one role.

    Args:
        members: The population; the networks are those in `Member.networks`.
        agents: Network key ("actor/speaker_0") to the indices of the agents it plays or judges, in a fixed order.
        device: Where the packs live.
        widen: Whether networks that differ only in their inputs and outputs share a pack as well.
    """

    def __init__(
        self,
        members: Sequence[Member],
        agents: Mapping[str, tuple[int, ...]],
        device: torch.device,
        *,
        widen: bool = False,
    ) -> None:
        self.keys = tuple(agents)
        self.agents = tuple(agents.values())
        self.device = device
        rows = [(k, m) for k in range(len(self.keys)) for m in range(len(members))]
        networks = {(k, m): members[m].networks[self.keys[k]] for k, m in rows}
        specs = [networks[row].spec for row in rows]
        wide = dict(zip(rows, widened(specs) if widen else specs, strict=True))
        by_structure: dict[object, list[tuple[int, int]]] = {}
        for k, m in rows:
            by_structure.setdefault((wide[k, m].structure, len(self.agents[k])), []).append((k, m))
        self.packs = [
            Pack(
                alike,
                [networks[row] for row in alike],
                len(self.agents[alike[0][0]]),
                device,
                [wide[row] for row in alike] if widen else None,
            )
            for alike in by_structure.values()
        ]
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


class Selection:
    """The networks that one pass works on: some members', all keys or the first of them; `parts`, a pack each."""

    def __init__(self, owner: PackedNetworks, members: tuple[int, ...], keys: int) -> None:
        chosen = set(members)
        self.parts: list[PackRows] = []
        for pack in owner.packs:
            taken = [r for r, (k, m) in enumerate(pack.rows) if m in chosen and k < keys]
            if taken:
                self.parts.append(PackRows(pack, taken, owner.agents, members))
        self._members = len(members)
        self._assembly = self._assemble(owner, members, keys)

    @property
    def rows_members(self) -> list[int]:
        """For each batched pass that a forward takes, the number of distinct members in it."""
        return [part.distinct_members for part in self.parts]

    def _assemble(
        self, owner: PackedNetworks, members: tuple[int, ...], keys: int
    ) -> list[tuple[list[int], Tensor | None, list[int]]]:
        """Per output width: the parts that give it, how their rows are put in order, the agents in that order."""
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
            index = None if order == list(range(len(order))) else torch.tensor(order, device=owner.device)
            agents = [owner.agents[k][j] for k, j, m in wanted if m == members[0]]
            assembly.append((parts, index, agents))
        return assembly

    def _forward(self, which: str, inputs: Sequence[Source], extra: Source | None) -> list[tuple[Tensor, list[int]]]:
        """Outputs (agents, M, B, O) with the agents they belong to, one entry per output width."""
        outputs = [part.apply(which, inputs, extra) for part in self.parts]
        result = []
        for parts, order, agents in self._assembly:
            rows = outputs[parts[0]] if len(parts) == 1 else torch.cat([outputs[p] for p in parts])
            if order is not None:
                rows = rows.index_select(0, order)
            result.append((rows.view(len(agents), self._members, *rows.shape[1:]), agents))
        return result

    def values(self, which: str, inputs: Sequence[Source], extra: Source) -> Tensor:
        """What critics say: (J, M, B), networks in the order of their keys, each for its agents in turn."""
        ((values, _),) = self._forward(which, inputs, extra)
        return values.squeeze(-1)

    def by_agent(self, which: str, inputs: Sequence[Source]) -> list[Tensor]:
        """What actors say: per agent in environment order (M, B, outputs)."""
        found: dict[int, Tensor] = {}
        for outputs, agents in self._forward(which, inputs, None):
            found.update(zip(agents, outputs.unbind(0), strict=True))
        return [found[agent] for agent in sorted(found)]

    def descend(self, loss: Tensor, lr: NDArray[np.float64], max_norm: float | None) -> None:
        """One Adam step on the networks that the last "learn" pass used.

        Args:
            loss: Scalar; a sum in which each network's own terms are its own loss.
            lr: (M,) learning rates.
            max_norm: Bound of each network's gradient norm; None: no bound.
        """
        leaves = [list(part.learnt.values()) for part in self.parts]
        gradients = torch.autograd.grad(loss, [leaf for group in leaves for leaf in group])
        at = 0
        with torch.no_grad():
            for part, group in zip(self.parts, leaves, strict=True):
                part.descend(gradients[at : at + len(group)], lr, max_norm)
                at += len(group)

    def soften(self, tau: Tensor) -> None:
        """Polyak averaging of the targets: target += tau * (params - target), tau (M,)."""
        for part in self.parts:
            part.soften(tau)
