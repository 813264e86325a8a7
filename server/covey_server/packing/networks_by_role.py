"""Runs all actors, or all critics, of a whole population in few batched forward and backward passes.

Networks of equal structure are stacked in a pack, one row each, whatever member, agent or twin critic they belong to,
unless padding them to one shape would cost more than a further pass. A `Pass` is the rows that some of the members own:
choose them, compute values, compute gradients, make an Adam step. This folder's README has an example.

Dims: M members of a pass, B samples, J agents that networks play or score, summed over the networks (an agent counts
once for each twin critic), K networks of a pack, P numbers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.networks import NetworkSpec
from covey.networks.pack import grouped, layer_activations, padded, uneven, widened
from covey_server.member import Member, MemberSizes
from covey_server.packing.optimiser import Runs
from covey_server.packing.pack import Pack
from covey_server.packing.pack_rows import Mode, PackRows
from covey_server.packing.recently_used import RecentlyUsed
from covey_server.packing.row_inputs import Source
from covey_server.packing.updates import UpdateBackend

PASS_COST = {"cpu": 25_000, "cuda": 10_000_000}
"""How many multiplications for padding, of one sample, an update makes in the time of a further pass: measured at
batches of 24 to 72 on the CPU, reckoned from the time that launches take on a GPU."""

MOST_NUMBERS = {"cpu": 4 << 20, "cuda": 64 << 20}
"""How many numbers a pack of more than one network has at most. Larger ones gain nothing from being computed together,
and gradients take memory twice while they are put together, pack by pack."""

KEPT_PASSES = 64
"""Passes whose indices stay on the device; members fall due in few combinations."""


class PackedNetworks:
    """All actors, or all critics, of a population, stacked so that networks of one structure run as one batch.

    How much is padded, and which networks share a pack, follows from the sizes of the whole population alone. So the
    members that others are divided from, or that learn in other passes, change no bit of what a network learns.

    Args:
        members: Whose networks these are: those in `Member.networks`.
        agents: Network key ("actor/speaker_0") to the indices of the agents it plays or scores, in a fixed order.
        device: Where the packs live.
        widen: Whether networks that differ only in their inputs and outputs share a pack as well, where their roles
            read as many numbers at most.
        multiple: Layers' sizes are padded to multiples of this, so that few mutations change a pack's shape.
        population: What is known of all members of the population, these among them; None: these are all.
        samples: How many samples each member of the population learns from; a pack need not compute more than its
            largest. None: all that it is given.
        own_extra: For critics whose gradient by an agent's own action is wanted: for each agent, which of the extra
            inputs are its action, as many for all of them.
    """

    def __init__(
        self,
        members: Sequence[Member],
        agents: Mapping[str, tuple[int, ...]],
        device: torch.device,
        *,
        widen: bool = False,
        multiple: int = UpdateBackend.multiple,
        population: Sequence[MemberSizes] | None = None,
        samples: Sequence[int] | None = None,
        own_extra: Sequence[Sequence[int]] = (),
    ) -> None:
        self.samples, self.own_extra = None if samples is None else max(samples), own_extra
        self.keys = tuple(agents)
        self.agents = tuple(agents.values())
        self.device = device
        networks = {(k, m): own.networks[key] for k, key in enumerate(self.keys) for m, own in enumerate(members)}
        everybody = [MemberSizes.of(m) for m in members] if population is None else population
        every = [(k, e) for k in range(len(self.keys)) for e in range(len(everybody))]
        specs = {(k, e): everybody[e].specs[self.keys[k]] for k, e in every}
        roles = [key.partition("/")[0] for key in self.keys]
        wide = {row: _rounded_up(specs[row], multiple) for row in every}
        if widen:
            by_width: dict[int, list[tuple[int, int]]] = {}  # networks of those roles that read as much at most
            for role in dict.fromkeys(roles):
                its = [row for row in every if roles[row[0]] == role]
                by_width.setdefault(max(wide[row].inputs[0].width for row in its), []).extend(its)
            for its in by_width.values():
                wide.update(zip(its, widened([wide[row] for row in its]), strict=True))

        def place(row: tuple[int, int]) -> tuple[object, ...]:
            """Return a network's sort key within its stack: actor or critic first, then activation functions."""
            return roles.index(roles[row[0]]), layer_activations(networks[row].spec), row

        self.packs: list[Pack] = []
        # Networks of as many agents alone have outputs of one shape.
        for count in sorted({len(its) for its in self.agents}):
            alike = [row for row in every if len(self.agents[row[0]]) == count]
            for taken in grouped([wide[row] for row in alike], PASS_COST[device.type]):
                sharing = [alike[i] for i in taken]
                # Equal architectures share a pack, so each network's pack is known by its architecture.
                shapes = {(k, specs[k, e]) for k, e in sharing}
                own = sorted((row for row in networks if (row[0], networks[row].spec) in shapes), key=place)
                room = padded([wide[row] for row in sharing])
                largest = None if samples is None else max(samples[e] for _, e in sharing)
                both = room, uneven([specs[row] for row in sharing], room)
                most = max(1, MOST_NUMBERS[device.type] // room.numbers)
                for first in range(0, len(own), most):
                    part = own[first : first + most]
                    self.packs.append(Pack(part, [networks[row] for row in part], count, device, both, largest))
        self._passes = RecentlyUsed[tuple[tuple[int, ...], int], Pass](KEPT_PASSES)

    def select(self, members: tuple[int, ...], keys: int | None = None) -> Pass:
        """Return a batched pass over the networks of these members, given as ascending positions in the population.

        `keys`, if given, keeps only the networks of the first so many names, such as the actors where critics follow
        them.
        """
        keys = len(self.keys) if keys is None else keys
        return self._passes.get((members, keys), lambda: Pass(self, members, keys))

    def release(self) -> None:
        """Let the members' networks forget their own numbers until `unpack` gives them those of the matrices."""
        for pack in self.packs:
            pack.release()

    def close(self) -> None:
        """Free the matrices; nothing can be computed any more. The members' own numbers must be up to date."""
        self.packs.clear()
        self._passes.clear()

    def unpack(self) -> None:
        """Copy parameters, targets, Adam moments and step counts from the stacked matrices back into the members."""
        for pack in self.packs:
            pack.unpack()


def _rounded_up(spec: NetworkSpec, multiple: int) -> NetworkSpec:
    """Return a network's architecture with the size of every layer rounded up to the next multiple."""
    return spec.resized({label: -(-n // multiple) * multiple for label, n in spec.sizes.items()})


@dataclass(frozen=True, eq=False, slots=True)
class OutputOrder:
    """Reorders the outputs of stacked networks: from the order of the stacks' rows to agents by members, and back.

    Attributes:
        rows: The parts of the stacks whose networks have outputs of one width, one after the other.
        index: For each pair of agent and member, agent first, the position of its output among the rows; a network that
            serves n agents has n outputs there. None: they are in this order already.
        inverse: For each of the rows, its position among the pairs of agent and member; None if `index` is.
        agents: Whose the outputs are, and how wide that agent's own outputs are.
    """

    rows: list[PackRows]
    index: Tensor | None
    inverse: Tensor | None
    agents: list[tuple[int, int]]

    @staticmethod
    def of(rows: list[PackRows], owner: PackedNetworks, members: tuple[int, ...]) -> OutputOrder:
        """Find how outputs of one width are reordered from stacked networks to agents by members."""
        # Key, which of the key's agents, member: as the rows are, and as they are wanted.
        given = [(k, j, m) for own in rows for k, m in own.owners.pairs for j in range(own.pack.agents)]
        keys = sorted({k for k, _, _ in given})
        wanted = [(k, j, m) for k in keys for j in range(len(owner.agents[k])) for m in members]
        at = {network: i for i, network in enumerate(given)}
        order = [at[network] for network in wanted]
        index = inverse = None
        if order != list(range(len(order))):
            index = torch.tensor(order).to(owner.device, non_blocking=True)
            inverse = torch.from_numpy(np.argsort(order)).to(owner.device, non_blocking=True)
        outputs = {
            k: network.spec.outputs
            for own in rows
            for (k, _), network in zip(own.pack.rows, own.pack.networks, strict=True)
        }
        agents = [(owner.agents[k][j], outputs[k]) for k, j, m in wanted if m == members[0]]
        return OutputOrder(rows, index, inverse, agents)

    def by_agent(self, outputs: Sequence[Tensor], members: int) -> Tensor:
        """Reorder outputs of stacked networks, a tensor (rows, B, O) for each stack, to (agents, M, B, O).

        Dims: M members, B samples, O output units.
        """
        x = outputs[0] if len(outputs) == 1 else torch.cat(list(outputs))
        if self.index is not None:
            x = x.index_select(0, self.index)
        return x.view(len(self.agents), members, *x.shape[1:])

    def by_pack(self, x: Tensor) -> Sequence[Tensor]:
        """Reorder (agents, members, samples, outputs) as networks are stacked.

        Returns (rows, samples, outputs) a stack.
        """
        rows = x.flatten(0, 1)
        if self.inverse is not None:
            rows = rows.index_select(0, self.inverse)
        return rows.split_with_sizes([len(own) * own.pack.agents for own in self.rows])


class Pass:
    """Batched forward, backward and Adam steps over the networks of some members, one batch for each pack (stack).

    Where it is limited to the first names of networks, only those take part.

    Dims: M members, B samples, J agents summed over networks, K networks of a pack, P numbers of a row.

    Attributes:
        rows: The rows of each pack that has any.
    """

    def __init__(self, owner: PackedNetworks, members: tuple[int, ...], keys: int) -> None:
        chosen = set(members)
        self.rows: list[PackRows] = []
        for pack in owner.packs:
            taken = [r for r, (k, m) in enumerate(pack.rows) if m in chosen and k < keys]
            if taken:
                self.rows.append(PackRows(pack, taken, owner.agents, members, owner.samples, owner.own_extra))
        self._members = len(members)
        by_width: dict[int, list[PackRows]] = {}
        for own in self.rows:
            by_width.setdefault(own.pack.spec.outputs, []).append(own)
        self._orders = [OutputOrder.of(alike, owner, members) for alike in by_width.values()]

    @property
    def rows_members(self) -> list[int]:
        """For each batched forward that is run, the number of distinct population members that have networks in it."""
        return [own.owners.distinct_members for own in self.rows]

    def values(self, mode: Mode, inputs: Sequence[Tensor], extra: Tensor, own: Tensor | None = None) -> Tensor:
        """Compute the critics' values, (J, M, B): J agents scored (once per critic), M members, B samples.

        The order is that of the networks' names, and within a network that of the agents that it scores.

        Args:
            mode: Which weights are used.
            inputs: Per group of agents its observations, (M, B, width), or (N, M, B, width) if each agent has its own.
            extra: (M, B, E) or (N, M, B, E) extra inputs, usually the joint action.
            own: (N, M, B, a) what is added to each agent's own action among them, for its own critics alone. In mode
                "frozen" a gradient may be asked of it.
        """
        (order,) = self._orders
        outputs = [rows.apply(mode, inputs, extra, own) for rows in order.rows]
        return order.by_agent(outputs, self._members).squeeze(-1)

    def value_gradients(self, grad_out: Tensor) -> list[Tensor]:
        """Return a loss's gradients with respect to the critics' parameters, given that with respect to their values.

        They belong to the forward pass that `values` made last in mode "learn".

        Args:
            grad_out: Upstream gradient, of the loss with respect to the values: (agents scored, members, samples).

        Returns:
            For each stack of K networks, (K, numbers of a row).
        """
        (order,) = self._orders
        each = order.by_pack(grad_out.unsqueeze(-1))
        return [own.gradient(its) for own, its in zip(order.rows, each, strict=True)]

    def own_grads(self, grad_out: Tensor) -> Tensor:
        """Return the gradients of a loss with respect to each agent's own action.

        They belong to the forward pass that `values` made last in mode "frozen", in which parameters have no gradients.

        Args:
            grad_out: Upstream gradient, of the loss with respect to the values: (J agents scored, M members, B
                samples).

        Returns:
            (J, M, B, a): the share that goes through the agent's own value.
        """
        (order,) = self._orders
        each = order.by_pack(grad_out.unsqueeze(-1))
        return order.by_agent([own.own_grad(its) for own, its in zip(order.rows, each, strict=True)], self._members)

    def outputs_by_agent(self, mode: Mode, inputs: Sequence[Source]) -> list[Tensor]:
        """Run the actors; returns for each agent, in environment order, its outputs (members, samples, outputs)."""
        found: dict[int, Tensor] = {}
        for order in self._orders:
            outputs = order.by_agent([own.apply(mode, inputs) for own in order.rows], self._members)
            found |= {agent: y[..., :width] for (agent, width), y in zip(order.agents, outputs, strict=True)}
        return [found[agent] for agent in sorted(found)]

    def agent_gradients(self, grads_out: Sequence[Tensor]) -> list[Tensor]:
        """Return a loss's gradients with respect to the actors' parameters, given those with respect to their outputs.

        They belong to the forward pass that `outputs_by_agent` made last in mode "learn".

        Args:
            grads_out: Upstream gradients, of the loss with respect to each agent's outputs: (members, samples,
                outputs).

        Returns:
            For each stack of K networks, (K, numbers of a row).
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

    def count_steps(self, lr: NDArray[np.float64]) -> tuple[Runs, ...]:
        """Prepare an Adam step: set the networks' learning rates, and add 1 to the CPU's copy of their step counts.

        Args:
            lr: Learning rates, one a member of the pass.

        Returns:
            For each pack (stack of networks), which networks are moved in one call: where this is equal, `move` makes
            the same calls.
        """
        for own in self.rows:
            own.set_rates(lr)
            own.count_steps()
        return tuple(own.runs() for own in self.rows)

    def move(self, gradients: Sequence[Tensor], max_norm: float | None) -> None:
        """Make one Adam step on all networks of this batch; call `count_steps` before.

        Args:
            gradients: For each stack of K networks, (K, numbers of a row); overwritten.
            max_norm: Bound of each network's gradient norm; None: no bound.
        """
        for own, gradient in zip(self.rows, gradients, strict=True):
            own.move(gradient, max_norm)

    def soften(self, tau: Tensor) -> None:
        """Move the members' target networks (Polyak averaging): target += tau * (params - target), one tau a member."""
        for own in self.rows:
            own.soften(tau)
