"""A pack: networks of one structure, stacked; and the rows of it that one pass works on.

Parameters, targets and Adam moments are rows of (K, P) matrices, so that a layer is one batched product and an
optimiser step a handful of operations.

Dims: K rows, P numbers of the padded network, M members of a pass, B samples, N agents of the environment, n agents
that one network plays or judges (1 unless parameters are shared).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.networks import NetworkSpec, Params
from covey.networks.pack import PackLayout
from covey_server.member import Network
from covey_server.packing.optimiser import adam_, runs_of
from covey_server.packing.torch_ops import TorchOps, gradients

OPS = TorchOps()

Source = Tensor | Sequence[Tensor]
"""What networks read: (M, B, D) where all agents' networks of a member read the same, (N, M, B, D) or N times
(M, B, D_agent) where each agent's reads its own."""


class Pack:
    """K networks of one structure; `rows` says whose: (position in keys, position in members), sorted.

    Networks whose `wide` forms alone are of one structure are padded to these.
    """

    def __init__(
        self,
        rows: Sequence[tuple[int, int]],
        networks: Sequence[Network],
        agents: int,
        device: torch.device,
        wide: Sequence[NetworkSpec] | None = None,
    ) -> None:
        self.rows = list(rows)
        self.agents = agents
        self.networks = list(networks)
        self.layout = PackLayout(tuple(network.spec for network in networks), None if wide is None else tuple(wide))
        self.spec = self.layout.padded

        def matrix(params: Sequence[Params], *, moments: bool = False) -> Tensor:
            return torch.from_numpy(self.layout.pack(params, moments=moments)).to(device)

        self.params = matrix([network.params for network in networks])
        targets = [network.target for network in networks if network.target is not None]
        self.target = matrix(targets) if targets else None
        self.first_moment = matrix([network.first_moment for network in networks], moments=True)
        self.second_moment = matrix([network.second_moment for network in networks], moments=True)
        self.adam_steps = np.array([network.adam_steps for network in networks], np.int64)
        self.steps = torch.from_numpy(self.adam_steps.astype(np.float32)).to(device)  # the same, for the optimiser
        mask = self.layout.mask
        self.mask = None if mask.all() else torch.from_numpy(mask).to(device)
        self.valid = {label: torch.from_numpy(v).to(device) for label, v in self.layout.valid().items()}

    def unpack(self) -> None:
        """Write parameters, targets, moments and step counts back into the networks, in natural shapes."""
        params, first, second = (m.cpu().numpy() for m in (self.params, self.first_moment, self.second_moment))
        target = None if self.target is None else self.target.cpu().numpy()
        for k, network in enumerate(self.networks):
            network.params = self.layout.unpack_row(k, params[k])
            network.first_moment = self.layout.unpack_row(k, first[k])
            network.second_moment = self.layout.unpack_row(k, second[k])
            network.target = None if target is None else self.layout.unpack_row(k, target[k])
            network.adam_steps = int(self.adam_steps[k])


class PackRows:
    """The rows of one pack that a pass works on.

    Args:
        pack: The pack.
        taken: Which of its rows, ascending.
        agents: For each key, the agents that its networks play or judge.
        members: The members of the pass; every row belongs to one of them.
        samples: What each member of the population learns from, of the batch of the largest; None: all of it.
    """

    def __init__(
        self,
        pack: Pack,
        taken: Sequence[int],
        agents: Sequence[tuple[int, ...]],
        members: tuple[int, ...],
        samples: Sequence[int] | None = None,
    ) -> None:
        self.pack = pack
        self.taken = np.array(taken)
        device = pack.params.device
        contiguous = list(taken) == list(range(taken[0], taken[-1] + 1))
        # A run of rows is worked on in place; scattered ones are copied out and back.
        self.rows: slice | Tensor = slice(taken[0], taken[-1] + 1) if contiguous else torch.tensor(taken, device=device)
        at = {m: i for i, m in enumerate(members)}
        self.owners = [pack.rows[r] for r in taken]
        self.count = len(self.owners)
        self._position = np.array([at[m] for _, m in self.owners])
        self.member = torch.from_numpy(self._position).to(device)
        self.distinct_members = len({m for _, m in self.owners})
        # Of its own members, and of all: what is behind the former has no weight.
        self._samples = (
            None if samples is None else (max(samples[m] for _, m in self.owners), max(samples[m] for m in members))
        )
        judged = [(agent, at[m]) for k, m in self.owners for agent in agents[k]]
        self.read_agents = list(dict.fromkeys(agent for agent, _ in judged))
        m = len(members)
        shared = [position for _, position in judged]
        own = [agent * m + position for agent, position in judged]
        local = [self.read_agents.index(agent) * m + position for agent, position in judged]
        self._shared, self._own, self._local = (
            None if index == list(range(size)) else torch.tensor(index, device=device)
            for index, size in (
                (shared, m),
                (own, m * len({a for its in agents for a in its})),
                (local, m * len(self.read_agents)),
            )
        )
        self._eye = torch.eye(pack.agents, device=device) if pack.agents > 1 else None
        self._valid = {label: self.take(v) for label, v in pack.valid.items()}
        self._activations = pack.layout.activations(taken)
        self.mask = None if pack.mask is None else self.take(pack.mask)
        self._back: Callable[[Tensor], Tensor] | None = None  # of the last pass, where its gradient is wanted

    def take(self, matrix: Tensor) -> Tensor:
        """This part's rows: a view where they are neighbours, a copy otherwise."""
        return _taken(matrix, self.rows)

    def _views(self, matrix: Tensor) -> dict[str, Tensor]:
        """Of parameters (K, P), by name: weights (K, in, out), all else (K, 1, units)."""
        views = self.pack.layout.views(matrix)
        return {name: v if v.dim() > 2 else v.unsqueeze(1) for name, v in views.items()}

    def spread(self, source: Source) -> Tensor:
        """(K, n * B, D): what each row reads of `source`."""
        if not isinstance(source, Tensor):
            x, index = self._padded([self._cut(source[agent]) for agent in self.read_agents]), self._local
        elif source.dim() == 4:
            x, index = self._cut(source).flatten(0, 1), self._own
        else:
            x, index = self._cut(source), self._shared
        if index is not None:
            x = x.index_select(0, index)
        return x if self.pack.agents == 1 else x.reshape(self.count, -1, x.shape[-1])

    def _cut(self, x: Tensor) -> Tensor:
        """(..., B, D) without the samples that none of these rows learns from."""
        if self._samples is None or x.shape[-2] != self._samples[1]:
            return x
        return x[..., : self._samples[0], :]

    def _whole(self, x: Tensor) -> Tensor:
        """(..., B, D) again, zero where `_cut` cut."""
        if self._samples is None or x.shape[-2] != self._samples[0] or self._samples[0] == self._samples[1]:
            return x
        whole = x.new_zeros(*x.shape[:-2], self._samples[1], x.shape[-1])
        whole[..., : self._samples[0], :] = x
        return whole

    def _padded(self, own: Sequence[Tensor]) -> Tensor:
        """(agents * M, B, D) of what agents see, (M, B, D_agent) each, as wide as what the widest network reads."""
        (read,) = self.pack.spec.inputs
        if all(x.shape[-1] == read.width for x in own):
            return own[0] if len(own) == 1 else torch.cat(list(own))
        padded = own[0].new_zeros(len(own), *own[0].shape[:-1], read.width)
        for rows, x in zip(padded, own, strict=True):
            rows[..., : x.shape[-1]] = x
        return padded.flatten(0, 1)

    @torch.no_grad()
    def apply(self, which: str, inputs: Sequence[Source], extra: Source | None) -> Tensor:
        """Outputs (K * n, B, O)."""
        xs = [self.spread(source) for source in inputs]
        joined = None if extra is None else self.spread(extra)
        if joined is not None and self._eye is not None:
            batch = joined.shape[1] // self.pack.agents
            index = self._eye.repeat_interleave(batch, 0).expand(self.count, -1, -1)
            joined = torch.cat([joined, index], -1)
        y = self._applied(which, xs, joined)
        return self._whole(y.reshape(self.count * self.pack.agents, -1, y.shape[-1]))

    @torch.no_grad()
    def outputs(self, which: str, x: Tensor) -> Tensor:
        """Outputs (K, B, O) of networks that each read a row of their own, x (K, B, D)."""
        return self._applied(which, [x], None)

    def _applied(self, which: str, xs: Sequence[Tensor], extra: Tensor | None) -> Tensor:
        matrix = self.pack.target if which == "target" else self.pack.params
        assert matrix is not None
        params = {name: v.detach() for name, v in self._views(self.take(matrix)).items()}
        leaves: list[Tensor] = []  # what a gradient may be asked of
        if which == "learn":
            leaves = [v.requires_grad_() for v in params.values()]
        elif which == "frozen" and extra is not None:
            extra = extra.detach().requires_grad_()
            leaves = [extra]
        with torch.set_grad_enabled(bool(leaves)):
            y: Tensor = self.pack.spec.apply(OPS, params, xs, extra, valid=self._valid, activations=self._activations)

        def back(pull: Tensor) -> Tensor:
            found = gradients(y, leaves, pull)
            return torch.cat([g.reshape(self.count, -1) for g in found], 1) if which == "learn" else found[0]

        self._back = back if leaves else None
        return y.detach()

    def gradient(self, pull: Tensor) -> Tensor:
        """Of the parameters, (K, P), in the last "learn" pass.

        Args:
            pull: That of the outputs, as `apply` or `outputs` gave them.
        """
        back, self._back = self._back, None
        assert back is not None
        return back(self._cut(pull).reshape(self.count, -1, pull.shape[-1]))

    def slope(self, pull: Tensor) -> Tensor:
        """Of the extra inputs that `apply` was given, (K * n, B, E), in the last "frozen" pass; see `gradient`."""
        slope = self.gradient(pull)
        if self._eye is not None:
            slope = slope[..., : -len(self._eye)]  # without the index of the agent that is judged
        return self._whole(slope.reshape(self.count * self.pack.agents, -1, slope.shape[-1]))

    def log_std(self, matrix: Tensor) -> Tensor | None:
        """The free parameter of Gaussian policies in a matrix (K, P) of these rows: a view (K, 1, O)."""
        return None if self.pack.spec.log_std is None else matrix[:, None, -self.pack.spec.outputs :]

    def count_steps(self, live: NDArray[np.bool_] | None = None) -> None:
        """What the host knows of an Adam step."""
        self.pack.adam_steps[self.taken if live is None else self.taken[live]] += 1

    def move(
        self,
        gradient: Tensor,
        lr: NDArray[np.float64],
        max_norm: float | NDArray[np.float64] | None,
        live: NDArray[np.bool_] | None = None,
    ) -> None:
        """What the device does.

        Args:
            gradient: (K, P); overwritten.
            lr: (M,) learning rates.
            max_norm: Bound of each row's gradient norm, or (M,) such bounds; None: no bound.
            live: (K,) rows that move; the others stay as they are, moments and step counts too. None: all.
        """
        pack = self.pack
        if self.mask is not None:
            gradient.mul_(self.mask)
        rows, taken, position = self.rows, self.taken, self._position
        if live is not None and not live.all():
            gradient = gradient.index_select(0, torch.from_numpy(np.flatnonzero(live)).to(gradient.device))
            taken, position = taken[live], position[live]
            rows = torch.from_numpy(taken).to(gradient.device)
        state = (pack.params, pack.first_moment, pack.second_moment, pack.steps)
        moved = [_taken(matrix, rows) for matrix in state]
        moved[-1].add_(1)
        bound = max_norm[position] if isinstance(max_norm, np.ndarray) else max_norm
        adam_(*moved, gradient=gradient, runs=runs_of(lr[position], pack.adam_steps[taken]), max_norm=bound)
        for matrix, values in zip(state, moved, strict=True):
            _put(matrix, rows, values)

    def pattern(self, live: NDArray[np.bool_] | None = None) -> tuple[bool, ...]:
        """Which rows that move made as many Adam steps as the one before: equal for steps that are alike."""
        steps = self.pack.adam_steps[self.taken if live is None else self.taken[live]]
        return tuple((steps[1:] == steps[:-1]).tolist())

    def soften(self, tau: Tensor) -> None:
        """Move the targets by tau (M,) towards the parameters."""
        assert self.pack.target is not None
        target = self.take(self.pack.target)
        target.lerp_(self.take(self.pack.params), tau.index_select(0, self.member).unsqueeze(1))
        _put(self.pack.target, self.rows, target)


def _taken(matrix: Tensor, rows: slice | Tensor) -> Tensor:
    """These rows: a view where they are neighbours, a copy otherwise."""
    return matrix[rows] if isinstance(rows, slice) else matrix.index_select(0, rows)


def _put(matrix: Tensor, rows: slice | Tensor, values: Tensor) -> None:
    """Write rows back that `_taken` copied."""
    if not isinstance(rows, slice):
        matrix.index_copy_(0, rows, values)
