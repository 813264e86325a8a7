"""What joint critics read, kept apart as long as parts of it are the same for several of them.

A joint critic reads the observations and actions of all agents. Critics of one member read the same, and where agents
share a critic, its values of N agents differ in what is the agent's own alone: its one-hot index and, in the loss of
its policy, its action. The layer in which all that meets is linear, so it is computed part by part:

    x W = latents W_l + actions W_a     once for all agents of the critic, (K, B, H)
          + W_i                         the row of an agent's index, (K, n, 1, H)
          + (own - actions) W_own       by how much its own action differs, (K, n, B, H)

which costs one product where a critic of 10 agents, given 10 copies side by side, makes 10. And where many critics read
one member's data, each multiplies the data in its place (`ByMember`) instead of a copy for every critic.

Dims: K networks, n agents that one network scores, B samples, H units of the layer, M members, E extra inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from covey.networks.convolution import Window
from covey.networks.torch_module import TorchModule
from covey_server.packing.torch_ops import COLUMNS, TorchOps, network_by_network, product

Run = tuple[int, int, int]
"""Neighbouring rows [first, behind the last) that read neighbouring members, and the first of these members."""


class ByMember(NamedTuple):
    """Data of M members (M, B, D) that K networks read in its place.

    Attributes:
        x: The data.
        runs: Which rows read which members; in order, and all rows.
    """

    x: Tensor
    runs: tuple[Run, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a copy for each network, (K, B, D)."""
        return self.runs[-1][1], *self.x.shape[1:]

    def copied(self) -> Tensor:
        """Return a copy for each network, (K, B, D)."""
        return torch.cat([self.x[member : member + behind - first] for first, behind, member in self.runs])


@dataclass(frozen=True, eq=False, slots=True)
class Extra:
    """The extra inputs of K networks that score n agents each.

    Attributes:
        x: (K, B, E) where they are alike for all n agents, else (K, n * B, E).
        agents: n.
        alike: Which of both.
        own: (K * n, B, a), what is added to the a of them that are the agent's own; None: nothing.
        own_rows: (K * n * a,), where these are among the K * E rows of the weights; None if `own` is.
    """

    x: Tensor | ByMember
    agents: int
    alike: bool
    own: Tensor | None
    own_rows: Tensor | None


class JointOps(TorchOps):
    """The operations of layers in torch, for inputs that come in parts, as do the weights of the layer that reads them.

    A layer's weights are then a list: of each part of latents, of the extra inputs and, where n > 1, of the indices.
    """

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Reshape a tensor, or the data of members in its place."""
        return x._replace(x=x.x.reshape(len(x.x), *shape[1:])) if isinstance(x, ByMember) else x.reshape(shape)

    def convolution(self, x: Any, w: Tensor, b: Tensor, window: Window) -> Tensor:
        """Convolve images; those of members are read in their place by each network."""
        if not isinstance(x, ByMember):
            return super().convolution(x, w, b, window)
        xs = [its for first, behind, member in x.runs for its in x.x[member : member + behind - first].unbind()]
        return network_by_network(xs, w, b, window)

    def whole(self, x: Any) -> Tensor:
        """Return inputs as one tensor: data of members copied for each network."""
        return x.copied() if isinstance(x, ByMember) else x

    def module(self, encoder: TorchModule, params: Mapping[str, Tensor], x: Any) -> Tensor:
        """Compute encoders that are modules of one's own; data of members is copied for each network."""
        return super().module(encoder, params, self.whole(x))

    def channels_last(self, x: Any, channels: int) -> Any:
        """Reorder images whose numbers come channel by channel to pixel by pixel."""
        if isinstance(x, ByMember):
            return x._replace(x=super().channels_last(x.x, channels))
        return super().channels_last(x, channels)

    def columns(self, x: Any, start: int, stop: int) -> Any:
        """Return the numbers from `start` to before `stop` of the last axis."""
        return x._replace(x=x.x[..., start:stop]) if isinstance(x, ByMember) else x[..., start:stop]

    def concat(self, xs: Sequence[Any]) -> Any:
        """Concatenate along the last axis; data of members stays in its place."""
        if isinstance(xs[0], ByMember):
            return xs[0]._replace(x=torch.cat([x.x for x in xs], -1))
        return super().concat(xs)

    def joint(self, xs: Sequence[Any]) -> Any:
        """Leave latents and extra inputs apart, for `linear`."""
        return list(xs)

    def linear(self, x: Any, w: Any, b: Tensor) -> Tensor:
        """Compute `x @ w + b`; x may be data of members in its place, or latents and extra inputs apart."""
        if isinstance(x, ByMember) and w.shape[-1] < COLUMNS:
            x = x.copied()
        if isinstance(x, ByMember):
            return _plus_product(b.expand(-1, x.shape[1], -1), x, w)
        if isinstance(x, Tensor):
            return super().linear(x, w, b)
        *latents, extra = x
        y = super().linear(latents[0], w[0], b)
        for latent, its in zip(latents[1:], w[1:], strict=False):
            y = _plus_product(y, latent, its)
        networks, n, units = len(y), extra.agents, y.shape[-1]
        if extra.x.shape[1] > y.shape[1]:  # latents are the same for all agents, extra inputs are not
            y = y.unsqueeze(1).expand(-1, n, -1, -1).reshape(networks, -1, units)
        of_extra = w[len(latents)]
        y = _plus_product(y, extra.x, of_extra)
        if n > 1:
            # The one-hot index of an agent times its weights is one row of them.
            y = y.unsqueeze(1) if extra.alike else y.unflatten(1, (n, -1))
            y = (y + w[-1].unsqueeze(2)).flatten(0, 1)
        if extra.own is not None:
            own_rows = of_extra.reshape(-1, units).index_select(0, extra.own_rows)
            y = _plus_product(y, extra.own, own_rows.unflatten(0, (len(extra.own), -1)))
        return y.reshape(networks, -1, units)


def _plus_product(y: Tensor, x: Tensor | ByMember, w: Tensor) -> Tensor:
    """Compute y + x @ w for stacked networks."""
    if isinstance(x, ByMember):
        added: Tensor = _PlusProductByMember.apply(y, x.x, w, x.runs)  # type: ignore[no-untyped-call]
        return added
    return y + product(x, w) if 1 in w.shape[1:] else torch.baddbmm(y, x, w)


class _PlusProductByMember(torch.autograd.Function):
    """Batched `y + x @ w`, where each run of rows multiplies its members' data in its place."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, w: Tensor, runs: tuple[Run, ...]) -> Tensor:
        """Compute the product run by run."""
        ctx.save_for_backward(x)
        ctx.runs = runs
        out = y.new_empty(y.shape)
        for first, behind, member in runs:
            data = x[member : member + behind - first]
            torch.baddbmm(y[first:behind], data, w[first:behind], out=out[first:behind])
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to y and w; x is data."""
        (grad_out,) = grad_outputs
        (x,) = ctx.saved_tensors
        for_y, _, for_w, _ = ctx.needs_input_grad
        runs = ((first, behind, x[member : member + behind - first]) for first, behind, member in ctx.runs)
        for_weights = [torch.bmm(data.mT, grad_out[first:behind]) for first, behind, data in runs] if for_w else None
        return grad_out if for_y else None, None, None if for_weights is None else torch.cat(for_weights), None
