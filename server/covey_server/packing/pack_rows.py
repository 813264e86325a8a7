"""Computes with some of a stack's networks in one batch: forward, gradients, an Adam step, target updates.

Dims: K rows, P numbers of a row, M members of the pass, B samples, n agents that one network plays or
scores (1 unless parameters are shared), O outputs, E extra inputs, a of them an agent's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.packing.joint_inputs import ByMember, Extra, JointOps
from covey_server.packing.optimiser import Runs, adam_, runs_of
from covey_server.packing.pack import Pack
from covey_server.packing.recently_used import RecentlyUsed
from covey_server.packing.row_index import RowIndex
from covey_server.packing.row_inputs import RowInputs, Source
from covey_server.packing.sequences import over_sequences
from covey_server.packing.torch_ops import TorchOps, gradients

OPS = TorchOps()
JOINT_OPS = JointOps()

Mode = Literal["learn", "frozen", "target"]
"""Which weights a forward pass uses, and what a gradient may be asked of afterwards: "learn" the parameters, and a
gradient of them; "frozen" the parameters, and a gradient of each agent's own among the extra inputs; "target" the
target weights, and none."""

KEPT_SUBSETS = 64
"""Subsets of rows, as minibatches without some of the networks make them, whose indices stay on the device."""


class RowOwners:
    """Says which network of which population member each row of a batched pass is.

    Attributes:
        pairs: For each row, the position of its key and that of its member in the population.
        place: For each row, int64, the place of its member among those of the pass.
        place_on_device: The same, on the device.
        distinct_members: How many members the rows belong to.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]], members: tuple[int, ...], device: torch.device) -> None:
        places = {m: i for i, m in enumerate(members)}
        self.pairs = list(pairs)
        self.place = np.array([places[m] for _, m in pairs], np.int64)
        self.place_on_device = torch.from_numpy(self.place).to(device, non_blocking=True)
        self.distinct_members = len({m for _, m in pairs})


class PackRows:
    """Those of a stack's networks that take part in a batched pass: forward, gradients, Adam steps, target updates.

    Args:
        pack: The stack; each of its rows is a network, named by a key such as "actor/speaker_0", of one member.
        taken: Which of its rows, ascending.
        agents: For each key, the agents that its networks play or score.
        members: The members of the pass; every row belongs to one of them.
        samples: How many samples batches have; a pack of fewer leaves the rest out. None: packs compute all.
        own_extra: For each agent, which of the extra inputs are its own, as many for all of them.
    """

    def __init__(
        self,
        pack: Pack,
        taken: Sequence[int],
        agents: Sequence[tuple[int, ...]],
        members: tuple[int, ...],
        samples: int | None = None,
        own_extra: Sequence[Sequence[int]] = (),
    ) -> None:
        device = pack.params.device
        self.pack = pack
        self.index = RowIndex(taken, device)
        self.owners = RowOwners([pack.rows[r] for r in taken], members, device)
        pairs = self.owners.pairs
        places = zip(pairs, self.owners.place.tolist(), strict=True)
        self._inputs = RowInputs(
            [(agent, place) for (k, _), place in places for agent in agents[k]],
            pack.agents,
            agents=len({agent for own in agents for agent in own}),
            members=len(members),
            width=pack.spec.inputs[0].width,
            samples=None if samples is None or pack.samples is None else (pack.samples, samples),
            device=device,
        )
        # Where several agents share a network, the one-hot index of the agent is the last of its extra inputs.
        extra = pack.spec.extra - (pack.agents if pack.agents > 1 else 0)
        scored = [(row, agent) for row, (k, _) in enumerate(pairs) for agent in agents[k]]
        self._own_rows = None
        if own_extra:
            own_rows = [row * extra + column for row, agent in scored for column in own_extra[agent]]
            self._own_rows = torch.tensor(own_rows).to(device, non_blocking=True)
        self._joint_parts = [i.copies * pack.spec.latent_dim for i in pack.spec.inputs] + [extra]
        self._joint_parts += [pack.agents] if pack.agents > 1 else []
        self._valid = {label: self.index.take(v) for label, v in pack.valid.items()}
        self._activations = pack.layout.activations(taken)
        self.mask = None if pack.mask is None else self.index.take(pack.mask)
        self._line = torch.zeros(len(taken), pack.layout.width - pack.spec.numbers, device=device)
        self._subsets = RecentlyUsed[bytes, tuple[RowIndex, RowIndex]](KEPT_SUBSETS)
        self._backward: Callable[[Tensor], Tensor] | None = None  # of the last forward pass that has a gradient

    def __len__(self) -> int:
        return len(self.index)

    @torch.no_grad()
    def apply(
        self, mode: Mode, inputs: Sequence[Source], extra: Tensor | None = None, own: Tensor | None = None
    ) -> Tensor:
        """Run the networks, each on its own share of the inputs: (K * n, B, O), O outputs on B samples.

        K networks serve n agents each; n is 1 unless agents share parameters.

        Args:
            mode: Which weights are used.
            inputs: What they read: of each agent for networks that act, or all observations for those that score.
            extra: What networks that score read besides, (M, B, E) or (N, M, B, E).
            own: (N, M, B, a), added to the extra inputs that are the agent's own.
        """
        if extra is None:
            y = self._forward(mode, [self._inputs.spread(source) for source in inputs], None)
        else:
            xs = [self._inputs.joint(source) for source in inputs if isinstance(source, Tensor)]
            delta = None if own is None else self._inputs.by_agent(own)
            joined = Extra(self._inputs.joint(extra), self.pack.agents, extra.dim() == 3, delta, self._own_rows)
            y = self._forward(mode, xs, joined)
        return self._inputs.uncut(y.reshape(len(self) * self.pack.agents, -1, y.shape[-1]))

    @torch.no_grad()
    def outputs(self, mode: Mode, x: Tensor, begins: Tensor | None = None) -> Tensor:
        """Run K networks, each on its own row of x: (K, samples, outputs).

        Args:
            mode: Which weights are used.
            x: (K, samples, inputs), and behind the inputs the states of policies, where any policy has memory.
            begins: For networks with memory, where states are taken from x: (K, sequences, steps), see
                `over_sequences`.
        """
        spec = self.pack.spec
        width = spec.inputs[0].width
        size = spec.state_size or spec.reads_memory
        # Copies: a product may round by how wide the memory is that its rows lie in.
        memory = x[..., width : width + size].contiguous() if size else None
        return self._forward(mode, [x[..., :width].contiguous()], None, memory, begins)

    def stepper(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return a function that makes one decision of K networks with memory, with the weights as they are now.

        It takes inputs (K, B, width) and states (K, B, H), and returns outputs (K, B, O) and the states after.
        """
        params = {name: v.detach() for name, v in self._views(self.index.take(self.pack.params)).items()}
        width = self.pack.spec.inputs[0].width

        @torch.no_grad()
        def step(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            return self.pack.spec.step(
                OPS, params, x[..., :width].contiguous(), state, valid=self._valid, activations=self._activations
            )

        return step

    def _forward(
        self,
        mode: Mode,
        xs: Sequence[Tensor | ByMember],
        extra: Extra | None,
        memory: Tensor | None = None,
        begins: Tensor | None = None,
    ) -> Tensor:
        matrix = self.pack.target if mode == "target" else self.pack.params
        assert matrix is not None
        params: dict[str, Any] = {name: v.detach() for name, v in self._views(self.index.take(matrix)).items()}
        if extra is not None:
            # The weights of the layer that reads latents and extra inputs come in as many parts as these do.
            layer = "head.0.weight" if self.pack.spec.head.hidden_size else "head.out.weight"
            params[layer] = [part.detach() for part in params[layer].split_with_sizes(self._joint_parts, 1)]
        leaves: list[Tensor] = []  # what a gradient may be asked of
        if mode == "learn":
            leaves = [v for its in params.values() for v in (its if isinstance(its, list) else [its])]
        elif mode == "frozen" and extra is not None and extra.own is not None:
            leaves = [extra.own.detach()]
            extra = replace(extra, own=leaves[0])
        for leaf in leaves:
            leaf.requires_grad_()
        ops = OPS if extra is None else JOINT_OPS
        with torch.set_grad_enabled(bool(leaves)):
            spec, valid, activations = self.pack.spec, self._valid, self._activations
            y: Tensor
            if begins is not None and memory is not None:
                y = over_sequences(spec, params, xs[0], memory, begins, valid, activations)  # type: ignore[arg-type]
            else:
                y = spec.apply(ops, params, xs, extra, memory=memory, valid=valid, activations=activations)

        def backward(grad_out: Tensor) -> Tensor:
            found = gradients(y, leaves, grad_out)
            if mode == "frozen":
                return found[0]
            return torch.cat([*(g.reshape(len(self), -1) for g in found), self._line], 1)

        self._backward = backward if leaves else None
        return y.detach()

    def _views(self, matrix: Tensor) -> dict[str, Tensor]:
        """Return the parameters by name, as views of a matrix with one flattened network a row.

        Of K networks, weights have shape (K, in, out), all else (K, 1, units).
        """
        views = self.pack.layout.views(matrix)
        return {name: v if v.dim() > 2 else v.unsqueeze(1) for name, v in views.items()}

    def gradient(self, grad_out: Tensor) -> Tensor:
        """Return the gradient of a loss with respect to the parameters of the K networks, (K, numbers of a row).

        It belongs to the last forward pass in mode "learn"; in mode "frozen" it is that of `own` instead.

        Args:
            grad_out: Upstream gradient: of the loss with respect to the outputs, as `apply` or `outputs` gave them.
        """
        backward, self._backward = self._backward, None
        assert backward is not None
        return backward(self._inputs.cut(grad_out).reshape(len(self), -1, grad_out.shape[-1]))

    def own_grad(self, grad_out: Tensor) -> Tensor:
        """Return the gradient of a loss with respect to `own` of the last forward pass, which was in mode "frozen".

        Args:
            grad_out: Upstream gradient: of the loss with respect to the outputs that `apply` gave.

        Returns:
            (networks * agents of each, samples, a).
        """
        return self._inputs.uncut(self.gradient(grad_out))

    def log_std(self, matrix: Tensor) -> Tensor | None:
        """Return the log standard deviations of K Gaussian policies, a view (K, 1, outputs) of their parameters.

        None if the networks have none.
        """
        spec = self.pack.spec
        return None if spec.log_std is None else matrix[:, None, spec.numbers - spec.outputs : spec.numbers]

    def count_steps(self, active: NDArray[np.bool_] | None = None) -> None:
        """Add 1 to the Adam step counts of these networks in the CPU's copy; `move` adds it to the device's copy.

        Args:
            active: Which of the networks make a step; None: all.
        """
        self.pack.adam_steps[self._moving(active)[0].numbers] += 1

    def set_rates(self, lr: NDArray[np.float64]) -> None:
        """Set the learning rates of these networks, one a member of the pass, for the steps that follow."""
        pack, numbers = self.pack, self.index.numbers
        rates = lr[self.owners.place]
        if (pack.lr[numbers] != rates).any():
            pack.lr[numbers] = rates
            pack.rates.copy_(torch.from_numpy(pack.lr), non_blocking=True)

    def runs(self, active: NDArray[np.bool_] | None = None) -> Runs:
        """Return which networks that make a step make it in one call: neighbours of equal rates and step counts.

        Updates for which this is equal make the same calls.
        """
        numbers = self._moving(active)[0].numbers
        return runs_of(self.pack.lr[numbers], self.pack.adam_steps[numbers])

    def move(
        self,
        gradient: Tensor,
        max_norm: float | Tensor | None,
        active: NDArray[np.bool_] | None = None,
    ) -> None:
        """Make one Adam step on these networks; call `set_rates` and `count_steps` before.

        Args:
            gradient: One row a network; overwritten.
            max_norm: Bound of each network's gradient norm, or one such bound a member; None: no bound.
            active: Which of the networks move; the others stay as they are, moments and step counts too. None: all.
        """
        pack = self.pack
        if self.mask is not None:
            gradient.mul_(self.mask)  # padding stays what it is
        rows, within = self._moving(active)
        state = (pack.params, pack.first_moment, pack.second_moment, pack.steps)
        moved = [rows.take(matrix) for matrix in state]
        params, first_moment, second_moment, steps = moved
        steps.add_(1)
        bound = max_norm
        if isinstance(max_norm, Tensor):
            bound = max_norm.index_select(0, within.take(self.owners.place_on_device))
        adam_(
            params,
            first_moment,
            second_moment,
            steps,
            rows.take(pack.rates),
            gradient=within.take(gradient),
            runs=self.runs(active),
            max_norm=bound,
        )
        for matrix, values in zip(state, moved, strict=True):
            rows.put(matrix, values)

    def _moving(self, active: NDArray[np.bool_] | None) -> tuple[RowIndex, RowIndex]:
        """Return which stacked networks make an Adam step, and where these are among the networks of this pass."""
        key = b"" if active is None or active.all() else active.tobytes()

        def make() -> tuple[RowIndex, RowIndex]:
            chosen = np.arange(len(self)) if not key or active is None else np.flatnonzero(active)
            device = self.pack.params.device
            own = self.index if not key else RowIndex(self.index.numbers[chosen], device)
            return own, RowIndex(chosen, device)

        return self._subsets.get(key, make)

    def soften(self, tau: Tensor) -> None:
        """Move the target networks (Polyak averaging): target += tau * (params - target), one tau a member.

        Networks without targets stay as they are.
        """
        if self.pack.target is None:
            return
        target = self.index.take(self.pack.target)
        target.lerp_(self.index.take(self.pack.params), tau.index_select(0, self.owners.place_on_device).unsqueeze(1))
        self.index.put(self.pack.target, target)
