"""Packed networks: all networks of one role, over all members, in as few batched passes as their structures allow.

Networks of equal structure share a pack, whatever member, agent or twin they belong to: their parameters, targets and
Adam moments are rows of (K, P) matrices, so that a layer is one batched product and an optimiser step a handful of
operations. A `Selection` is the part of the packs that one pass works on.

Dims: K rows of a pack, P numbers of its padded network, M members of a pass, B samples, N agents of the environment,
n agents that one network judges (1 unless parameters are shared), J = sum of n over the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from covey.networks.pack import PackLayout
from covey_server.member import Member, Network
from covey_server.optimiser import adam_
from covey_server.torch_ops import TorchOps

OPS = TorchOps()

Source = Tensor | Sequence[Tensor]
"""What networks read: (M, B, D) where all agents' networks of a member read the same, (N, M, B, D) or N times
(M, B, D_agent) where each agent's reads its own."""


class Pack:
    """K networks of one structure; `rows` says whose: (position in keys, position in members), sorted."""

    def __init__(
        self, rows: Sequence[tuple[int, int]], networks: Sequence[Network], agents: int, device: torch.device
    ) -> None:
        self.rows = list(rows)
        self.agents = agents
        self.networks = list(networks)
        self.layout = PackLayout(tuple(network.spec for network in networks))
        self.spec = self.layout.padded

        def matrix(params: Sequence[Mapping[str, object]]) -> Tensor:
            return torch.from_numpy(self.layout.pack(params)).to(device)  # type: ignore[arg-type]

        self.params = matrix([network.params for network in networks])
        targets = [network.target for network in networks if network.target is not None]
        self.target = matrix(targets) if targets else None
        self.first_moment = matrix([network.first_moment for network in networks])
        self.second_moment = matrix([network.second_moment for network in networks])
        self.adam_steps = torch.tensor([n.adam_steps for n in networks], dtype=torch.float64, device=device)
        mask = self.layout.mask
        self.mask = None if mask.all() else torch.from_numpy(mask).to(device)
        self.valid = {label: torch.from_numpy(v).to(device) for label, v in self.layout.valid().items()}

    def unpack(self) -> None:
        """Write parameters, targets, moments and step counts back into the networks, in natural shapes."""
        steps = self.adam_steps.tolist()
        params, first, second = (m.cpu().numpy() for m in (self.params, self.first_moment, self.second_moment))
        target = None if self.target is None else self.target.cpu().numpy()
        for k, network in enumerate(self.networks):
            network.params = self.layout.unpack_row(k, params[k])
            network.first_moment = self.layout.unpack_row(k, first[k])
            network.second_moment = self.layout.unpack_row(k, second[k])
            network.target = None if target is None else self.layout.unpack_row(k, target[k])
            network.adam_steps = int(steps[k])


class PackedNetworks:
    """All networks of one role.

    Args:
        members: The population; the networks are those in `Member.networks`.
        agents: Network key ("actor/speaker_0") to the indices of the agents it plays or judges, in a fixed order.
        device: Where the packs live.
    """

    def __init__(self, members: Sequence[Member], agents: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self.keys = tuple(agents)
        self.agents = tuple(agents.values())
        self.device = device
        by_structure: dict[object, list[tuple[int, int]]] = {}
        for k, key in enumerate(self.keys):
            for m, member in enumerate(members):
                structure = (member.networks[key].spec.structure, len(self.agents[k]))
                by_structure.setdefault(structure, []).append((k, m))
        self.packs = [
            Pack(rows, [members[m].networks[self.keys[k]] for k, m in rows], len(self.agents[rows[0][0]]), device)
            for rows in by_structure.values()
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


class _Part:
    """The rows of one pack that a selection takes."""

    def __init__(self, pack: Pack, taken: Sequence[int], owner: PackedNetworks, members: tuple[int, ...]) -> None:
        self.pack = pack
        device = owner.device
        contiguous = list(taken) == list(range(taken[0], taken[-1] + 1))
        # A run of rows is worked on in place; scattered ones are copied out and back.
        self.rows: slice | Tensor = slice(taken[0], taken[-1] + 1) if contiguous else torch.tensor(taken, device=device)
        at = {m: i for i, m in enumerate(members)}
        owners = [pack.rows[r] for r in taken]
        self.count = len(owners)
        self.member = torch.tensor([at[m] for _, m in owners], device=device)
        self.distinct_members = len({m for _, m in owners})
        judged = [(agent, at[m]) for k, m in owners for agent in owner.agents[k]]
        self.read_agents = list(dict.fromkeys(agent for agent, _ in judged))
        m = len(members)
        shared = [position for _, position in judged]
        own = [agent * m + position for agent, position in judged]
        local = [self.read_agents.index(agent) * m + position for agent, position in judged]
        self._shared, self._own, self._local = (
            None if index == list(range(size)) else torch.tensor(index, device=device)
            for index, size in (
                (shared, m),
                (own, m * (1 + max(a for agents in owner.agents for a in agents))),
                (local, m * len(self.read_agents)),
            )
        )
        self._eye = torch.eye(pack.agents, device=device) if pack.agents > 1 else None
        self._leaves = self._views(self.take(pack.params), leaf=True) if contiguous else None
        self._frozen = self._views(self.take(pack.params)) if contiguous else None
        self._target = self._views(self.take(pack.target)) if contiguous and pack.target is not None else None
        self._valid = {label: self.take(v) for label, v in pack.valid.items()}
        self.mask = None if pack.mask is None else self.take(pack.mask)
        self.learnt: dict[str, Tensor] = {}

    def take(self, matrix: Tensor) -> Tensor:
        """This part's rows: a view where they are neighbours, a copy otherwise."""
        return matrix[self.rows] if isinstance(self.rows, slice) else matrix.index_select(0, self.rows)

    def put(self, matrix: Tensor, rows: Tensor) -> None:
        """Write rows back that `take` copied."""
        if not isinstance(self.rows, slice):
            matrix.index_copy_(0, self.rows, rows)

    def _views(self, flat: Tensor, *, leaf: bool = False) -> dict[str, Tensor]:
        views = self.pack.layout.views(flat.detach())
        return {name: v.detach().requires_grad_() for name, v in views.items()} if leaf else views

    def params(self, which: str) -> dict[str, Tensor]:
        """Parameters as views: "learn" (gradients are wanted), "frozen" or "target"."""
        if which == "target":
            assert self.pack.target is not None
            return self._target or self._views(self.take(self.pack.target))
        if which == "frozen":
            return self._frozen or self._views(self.take(self.pack.params))
        self.learnt = self._leaves or self._views(self.take(self.pack.params), leaf=True)
        return self.learnt

    def spread(self, source: Source) -> Tensor:
        """(K, n * B, D): what each row reads of `source`."""
        if not isinstance(source, Tensor):
            own = [source[agent] for agent in self.read_agents]
            x, index = own[0] if len(own) == 1 else torch.cat(own), self._local
        elif source.dim() == 4:
            x, index = source.flatten(0, 1), self._own
        else:
            x, index = source, self._shared
        if index is not None:
            x = x.index_select(0, index)
        return x if self.pack.agents == 1 else x.reshape(self.count, -1, x.shape[-1])

    def apply(self, which: str, inputs: Sequence[Source], extra: Source | None) -> Tensor:
        """Outputs (K * n, B, O)."""
        xs = [self.spread(source) for source in inputs]
        joined = None if extra is None else self.spread(extra)
        if joined is not None and self._eye is not None:
            batch = joined.shape[1] // self.pack.agents
            index = self._eye.repeat_interleave(batch, 0).expand(self.count, -1, -1)
            joined = torch.cat([joined, index], -1)
        y = self.pack.spec.apply(OPS, self.params(which), xs, joined, valid=self._valid)
        return y if self.pack.agents == 1 else y.reshape(self.count * self.pack.agents, -1, y.shape[-1])

    def descend(self, gradients: Sequence[Tensor], lr: Tensor, max_norm: float | None) -> None:
        """One Adam step of every row, with the gradients of `learnt`, and lr (M,)."""
        pack = self.pack
        gradient = torch.cat([g.reshape(self.count, -1) for g in gradients], 1)
        if self.mask is not None:
            gradient.mul_(self.mask)
        state = (pack.params, pack.first_moment, pack.second_moment, pack.adam_steps)
        taken = [self.take(matrix) for matrix in state]
        adam_(*taken, gradient=gradient, lr=lr.index_select(0, self.member), max_norm=max_norm)
        for matrix, rows in zip(state, taken, strict=True):
            self.put(matrix, rows)

    def soften(self, tau: Tensor) -> None:
        """Move the targets by tau (M,) towards the parameters."""
        assert self.pack.target is not None
        target = self.take(self.pack.target)
        target.lerp_(self.take(self.pack.params), tau.index_select(0, self.member).unsqueeze(1))
        self.put(self.pack.target, target)


class Selection:
    """The networks that one pass works on: some members', all keys or the first of them."""

    def __init__(self, owner: PackedNetworks, members: tuple[int, ...], keys: int) -> None:
        chosen = set(members)
        self._parts: list[_Part] = []
        for pack in owner.packs:
            taken = [r for r, (k, m) in enumerate(pack.rows) if m in chosen and k < keys]
            if taken:
                self._parts.append(_Part(pack, taken, owner, members))
        self._members = len(members)
        self._assembly = self._assemble(owner, members, keys)

    @property
    def rows_members(self) -> list[int]:
        """For each batched pass that a forward takes, the number of distinct members in it."""
        return [part.distinct_members for part in self._parts]

    def _assemble(
        self, owner: PackedNetworks, members: tuple[int, ...], keys: int
    ) -> list[tuple[list[int], Tensor | None, list[int]]]:
        """Per output width: the parts that give it, how their rows are put in order, the agents in that order."""
        by_width: dict[int, list[int]] = {}
        for p, part in enumerate(self._parts):
            by_width.setdefault(part.pack.spec.outputs, []).append(p)
        assembly = []
        for parts in by_width.values():
            given = [
                (k, j, m)
                for p in parts
                for k, m in self._row_owners(self._parts[p])
                for j in range(self._parts[p].pack.agents)
            ]
            wanted = [
                (k, j, m)
                for k in sorted({k for k, _, _ in given})
                for j in range(len(owner.agents[k]))
                for m in members
            ]
            at = {owner_: i for i, owner_ in enumerate(given)}
            order = [at[w] for w in wanted]
            index = None if order == list(range(len(order))) else torch.tensor(order, device=owner.device)
            agents = [owner.agents[k][j] for k, j, m in wanted if m == members[0]]
            assembly.append((parts, index, agents))
        return assembly

    @staticmethod
    def _row_owners(part: _Part) -> list[tuple[int, int]]:
        rows = part.pack.rows
        return rows[part.rows] if isinstance(part.rows, slice) else [rows[r] for r in part.rows.tolist()]

    def _forward(self, which: str, inputs: Sequence[Source], extra: Source | None) -> list[tuple[Tensor, list[int]]]:
        """Outputs (agents, M, B, O) with the agents they belong to, one entry per output width."""
        outputs = [part.apply(which, inputs, extra) for part in self._parts]
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

    def descend(self, loss: Tensor, lr: Tensor, max_norm: float | None) -> None:
        """One Adam step on the networks that the last "learn" pass used.

        Args:
            loss: Scalar; a sum in which each network's own terms are its own loss.
            lr: (M,) learning rates.
            max_norm: Bound of each network's gradient norm; None: no bound.
        """
        leaves = [list(part.learnt.values()) for part in self._parts]
        gradients = torch.autograd.grad(loss, [leaf for group in leaves for leaf in group])
        at = 0
        with torch.no_grad():
            for part, group in zip(self._parts, leaves, strict=True):
                part.descend(gradients[at : at + len(group)], lr, max_norm)
                at += len(group)

    def soften(self, tau: Tensor) -> None:
        """Polyak averaging of the targets: target += tau * (params - target), tau (M,)."""
        for part in self._parts:
            part.soften(tau)
