"""All networks of one role (actors, or critics), over all members, in few batched passes.

Networks of equal structure share a pack, whatever member, agent or twin they belong to, unless padding would cost more
than a pass. A `Pass` is the rows of the packs that some of the members own: select, values, gradients, move. This
folder's README has an example.

Dims: M members of a pass, B samples, J agents that networks play or score, summed over the networks (an agent counts
once for each twin critic).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.networks import NetworkSpec
from covey.networks.pack import grouped, layer_activations, widened
from covey_server.member import Member
from covey_server.packing.pack import Pack
from covey_server.packing.pack_rows import Mode, PackRows
from covey_server.packing.row_inputs import Source

PASS_COST = {"cpu": 25_000, "cuda": 10_000_000}
"""How many numbers of padding an update carries in the time of a further pass: measured at batches of 24 to 72 on the
CPU, reckoned from the time that launches take on a GPU."""

KEPT_PASSES = 64
"""Passes whose indices stay on the device; members fall due in few combinations."""


class PackedNetworks:
    """All networks of one role, packed.

    Args:
        members: The population; the networks are those in `Member.networks`.
        agents: Network key ("actor/speaker_0") to the indices of the agents it plays or scores, in a fixed order.
        device: Where the packs live.
        widen: Whether networks that differ only in their inputs and outputs share a pack as well.
        multiple: Layers' sizes are padded to multiples of this, so that few mutations change a pack's shape.
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
        forms = [_rounded_up(networks[row].spec, multiple) for row in rows]
        wide = dict(zip(rows, widened(forms) if widen else forms, strict=True))
        roles = [key.partition("/")[0] for key in self.keys]

        def place(row: tuple[int, int]) -> tuple[object, ...]:
            """Role by role, as passes take them; in each, rows of one activation are neighbours."""
            return roles.index(roles[row[0]]), layer_activations(networks[row].spec), row

        self.packs: list[Pack] = []
        # Networks of as many agents alone have outputs of one shape.
        for count in sorted({len(its) for its in self.agents}):
            alike = [row for row in rows if len(self.agents[row[0]]) == count]
            for taken in grouped([wide[row] for row in alike], PASS_COST[device.type]):
                own = sorted((alike[i] for i in taken), key=place)
                self.packs.append(Pack(own, [networks[row] for row in own], count, device, [wide[row] for row in own]))
        self._passes: dict[tuple[tuple[int, ...], int], Pass] = {}

    def select(self, members: tuple[int, ...], keys: int | None = None) -> Pass:
        """The networks of these members (ascending positions), of the first `keys` keys only where given."""
        keys = len(self.keys) if keys is None else keys
        if (members, keys) not in self._passes:
            if len(self._passes) >= KEPT_PASSES:
                self._passes.clear()
            self._passes[members, keys] = Pass(self, members, keys)
        return self._passes[members, keys]

    def unpack(self) -> None:
        """Write parameters, targets, moments and step counts back into the members' networks."""
        for pack in self.packs:
            pack.unpack()


def _rounded_up(spec: NetworkSpec, multiple: int) -> NetworkSpec:
    """The same network with every layer as wide as the next multiple."""
    return spec.resized({label: -(-n // multiple) * multiple for label, n in spec.sizes.items()})


@dataclass(frozen=True, eq=False, slots=True)
class OutputOrder:
    """From the rows of packs, which lie as padding and activations want them, to agents by members, and back.

    Attributes:
        rows: The packs' rows that have outputs of one width, one pack after the other.
        index: Where in these rows, n an each where a network has n agents, each agent's of each member is: agents by
            members, flat. None: in this order already.
        inverse: Where in agents by members each of the rows is; None likewise.
        agents: Whose the outputs are, and how wide that agent's own outputs are.
    """

    rows: list[PackRows]
    index: Tensor | None
    inverse: Tensor | None
    agents: list[tuple[int, int]]

    @staticmethod
    def of(rows: list[PackRows], owner: PackedNetworks, members: tuple[int, ...]) -> OutputOrder:
        """The order of the outputs of some packs' rows, which have outputs of one width."""
        # Key, which of the key's agents, member: as the rows are, and as they are wanted.
        given = [(k, j, m) for own in rows for k, m in own.owners.pairs for j in range(own.pack.agents)]
        keys = sorted({k for k, _, _ in given})
        wanted = [(k, j, m) for k in keys for j in range(len(owner.agents[k])) for m in members]
        at = {network: i for i, network in enumerate(given)}
        order = [at[network] for network in wanted]
        index = inverse = None
        if order != list(range(len(order))):
            index = torch.tensor(order, device=owner.device)
            inverse = torch.tensor(np.argsort(order), device=owner.device)
        outputs = {
            k: network.spec.outputs
            for own in rows
            for (k, _), network in zip(own.pack.rows, own.pack.networks, strict=True)
        }
        agents = [(owner.agents[k][j], outputs[k]) for k, j, m in wanted if m == members[0]]
        return OutputOrder(rows, index, inverse, agents)

    def by_agent(self, outputs: Sequence[Tensor], members: int) -> Tensor:
        """Put the outputs of the packs' networks, (rows, B, O) each, in the order of agents: (agents, M, B, O)."""
        x = outputs[0] if len(outputs) == 1 else torch.cat(list(outputs))
        if self.index is not None:
            x = x.index_select(0, self.index)
        return x.view(len(self.agents), members, *x.shape[1:])

    def by_pack(self, x: Tensor) -> Sequence[Tensor]:
        """The inverse of `by_agent`: each pack's (rows, B, O) from (agents, M, B, O)."""
        rows = x.flatten(0, 1)
        if self.inverse is not None:
            rows = rows.index_select(0, self.inverse)
        return rows.split_with_sizes([len(own) * own.pack.agents for own in self.rows])


class Pass:
    """The networks of some members, all keys or the first of them, in one batched pass per pack.

    Attributes:
        rows: The rows of each pack that has any.
    """

    def __init__(self, owner: PackedNetworks, members: tuple[int, ...], keys: int) -> None:
        chosen = set(members)
        self.rows: list[PackRows] = []
        for pack in owner.packs:
            taken = [r for r, (k, m) in enumerate(pack.rows) if m in chosen and k < keys]
            if taken:
                self.rows.append(PackRows(pack, taken, owner.agents, members, owner.samples))
        self._members = len(members)
        by_width: dict[int, list[PackRows]] = {}
        for own in self.rows:
            by_width.setdefault(own.pack.spec.outputs, []).append(own)
        self._orders = [OutputOrder.of(alike, owner, members) for alike in by_width.values()]

    @property
    def rows_members(self) -> list[int]:
        """For each batched pass that a forward takes, the number of distinct members in it."""
        return [own.owners.distinct_members for own in self.rows]

    def values(self, mode: Mode, inputs: Sequence[Source], extra: Source) -> Tensor:
        """Values that critics give, (J, M, B): networks in the order of their keys, each for its agents in turn."""
        (order,) = self._orders
        return order.by_agent([own.apply(mode, inputs, extra) for own in order.rows], self._members).squeeze(-1)

    def value_gradients(self, grad_out: Tensor) -> list[Tensor]:
        """Gradient of a loss with respect to the critics' parameters, (K, P) of each pack, behind "learn" `values`.

        Args:
            grad_out: Upstream gradient: of the loss with respect to the values, (J, M, B).
        """
        (order,) = self._orders
        each = order.by_pack(grad_out.unsqueeze(-1))
        return [own.gradient(its) for own, its in zip(order.rows, each, strict=True)]

    def input_grads(self, grad_out: Tensor) -> Tensor:
        """Gradient of a loss with respect to the critics' extra inputs, behind "frozen" `values`.

        Args:
            grad_out: Upstream gradient: of the loss with respect to the values, (J, M, B).

        Returns:
            (J, M, B, E): the share that goes through each of the J agents' values.
        """
        (order,) = self._orders
        each = order.by_pack(grad_out.unsqueeze(-1))
        return order.by_agent([own.input_grad(its) for own, its in zip(order.rows, each, strict=True)], self._members)

    def outputs_by_agent(self, mode: Mode, inputs: Sequence[Source]) -> list[Tensor]:
        """Outputs of actors: per agent in environment order (M, B, outputs)."""
        found: dict[int, Tensor] = {}
        for order in self._orders:
            outputs = order.by_agent([own.apply(mode, inputs, None) for own in order.rows], self._members)
            found |= {agent: y[..., :width] for (agent, width), y in zip(order.agents, outputs, strict=True)}
        return [found[agent] for agent in sorted(found)]

    def agent_gradients(self, grads_out: Sequence[Tensor]) -> list[Tensor]:
        """Gradient of a loss with respect to the actors' parameters, (K, P) of each pack, behind "learn" outputs.

        Args:
            grads_out: Upstream gradients: of the loss with respect to each agent's outputs, (M, B, outputs).
        """
        found: dict[int, Tensor] = {}
        for order in self._orders:
            own = [grads_out[agent] for agent, _ in order.agents]
            joint = own[0].new_zeros(len(own), *own[0].shape[:-1], order.rows[0].pack.spec.outputs)
            for rows, grad_out in zip(joint, own, strict=True):
                rows[..., : grad_out.shape[-1]] = grad_out
            for its, grad_out in zip(order.rows, order.by_pack(joint), strict=True):
                found[self.rows.index(its)] = its.gradient(grad_out)
        return [found[p] for p in sorted(found)]

    def count_steps(self) -> tuple[tuple[bool, ...], ...]:
        """Increment the Adam step counters that the CPU keeps; see `PackRows.count_steps`.

        Returns:
            For each pack which rows have made as many steps as the row before: with equal patterns, `move` does the
            same.
        """
        for own in self.rows:
            own.count_steps()
        return tuple(own.equal_step_counts() for own in self.rows)

    def move(self, gradients: Sequence[Tensor], lr: NDArray[np.float64], max_norm: float | None) -> None:
        """One Adam step on all networks of the pass; `count_steps` has counted it.

        Args:
            gradients: (K, P) of each pack; overwritten.
            lr: (M,) learning rates.
            max_norm: Bound of each network's gradient norm; None: no bound.
        """
        for own, gradient in zip(self.rows, gradients, strict=True):
            own.move(gradient, lr, max_norm)

    def soften(self, tau: Tensor) -> None:
        """Polyak averaging of the targets: target += tau * (params - target), tau (M,)."""
        for own in self.rows:
            own.soften(tau)
