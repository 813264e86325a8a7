"""One pass of a pack and its gradients, written down once and computed again in every update.

At the sizes of most policies an operation costs by the call, and by the memory that it finds cold: autograd's
bookkeeping, views made anew and results in ever other places are more than the arithmetic. A tape knows all shapes
beforehand and when each result has been read for the last time; what it computes is what `TorchOps` and autograd do.

Dims: K rows of the pack, B samples, P numbers of the padded network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from covey.networks import NetworkSpec
from covey.networks.ops import Activation
from covey_server.torch_ops import TorchOps

OPS = TorchOps()


class Scratch:
    """Memory that tapes share of which one at a time is in use, from a pass until its gradient is taken."""

    def __init__(self) -> None:
        self._places: list[Tensor] = []

    def place(self, n: int, shape: Sequence[int], like: Tensor) -> Tensor:
        """The n-th place, as large as need be, of one type. Tapes that hold it as it was keep that."""
        size = math.prod(shape)
        if n == len(self._places):
            self._places.append(like.new_empty(size))
        elif self._places[n].numel() < size:
            self._places[n] = like.new_empty(size)
        return self._places[n][:size].view(*shape)


class Tape:
    """A pass over rows of a pack. Call it to compute the outputs; then `back` for a gradient.

    Recorded as an `Ops` that a spec is applied with, each of whose results is read by one operation, as in all
    networks.

    Args:
        spec: Of the pack.
        matrix: (K, P), the rows' parameters, read anew in every pass.
        params: Views of it by name: weights (K, in, out), all else (K, 1, units).
        valid: As `NetworkSpec.apply` takes it.
        activations: As `NetworkSpec.apply` takes it.
        inputs: Shapes of what encoders read.
        extra: Shape of the extra inputs, if there are any.
        wanted: Of what `back` gives the gradient: "params", "extra" or nothing.
        scratch: For results.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        matrix: Tensor,
        params: Callable[[Tensor], Mapping[str, Tensor]],
        *,
        valid: Mapping[str, Tensor],
        activations: Mapping[str, Activation],
        inputs: Sequence[torch.Size],
        extra: torch.Size | None,
        wanted: str | None,
        scratch: Scratch,
    ) -> None:
        self._scratch, self._places, self._like = scratch, 0, matrix
        self._free: list[int] = []  # places whose contents have been read
        self._at: dict[int, int] = {}  # where a result is; by id, as all that follow: tensors live as long as the tape
        self._base: dict[int, Tensor] = {}  # what a view is one of
        self._joined: dict[int, list[tuple[Tensor, slice]]] = {}  # what a result of `concat` is made of
        self._wanted: set[int] = set()  # what gradients are needed of
        self._gradients: dict[int, Tensor] = {}
        self._kept: list[Tensor] = []
        self._forward: list[Callable[[], Any]] = []
        self._backward: list[Callable[[], Any]] = []
        self._unrecorded: list[Callable[[], None]] = []  # record the gradients of each operation

        own = params(matrix)
        self._inputs = [matrix.new_empty(shape) for shape in inputs]
        self._extra = None if extra is None else matrix.new_empty(extra)
        self._gradient: Tensor | None = None
        if wanted == "params":
            self._gradient = torch.zeros_like(matrix, memory_format=torch.contiguous_format)
            for name, gradient in params(self._gradient).items():
                self._wanted.add(id(own[name]))
                self._gradients[id(own[name])] = gradient
        elif wanted == "extra":
            assert self._extra is not None
            self._wanted.add(id(self._extra))
            self._gradient = self._gradients[id(self._extra)] = torch.empty_like(self._extra)
        self._outputs: Tensor = spec.apply(self, own, self._inputs, self._extra, valid=valid, activations=activations)
        if wanted is not None:
            self._pull = self._gradients[id(self._outputs)] = self._take(self._outputs.shape)
            while self._unrecorded:
                self._unrecorded.pop()()

    def __call__(self, inputs: Sequence[Tensor], extra: Tensor | None) -> Tensor:
        """Outputs (K, B, O), overwritten by `back` and by the next pass of the pack."""
        for own, x in zip(self._inputs, inputs, strict=True):
            own.copy_(x)
        if self._extra is not None and extra is not None:
            self._extra.copy_(extra)
        for step in self._forward:
            step()
        return self._outputs

    def back(self, pull: Tensor) -> Tensor:
        """The gradient that is wanted, (K, P) or of the extra inputs; overwritten by the next call.

        Args:
            pull: That of the outputs, (K, B, O).
        """
        assert self._gradient is not None
        self._pull.copy_(pull)
        for step in self._backward:
            step()
        return self._gradient

    # What networks are made of.

    def linear(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """`x @ w + b`."""
        y = self._take((*x.shape[:-1], w.shape[-1]))
        if w.shape[-1] == 1:
            # Matrix products with one column take several times as long as what they amount to.
            product = self._take(x.shape)
            self._do(torch.mul, x, w.transpose(1, 2), out=product)
            self._do(torch.sum, product, -1, keepdim=True, out=y)
            self._do(y.add_, b)
            self._release(product)
        else:
            self._do(torch.baddbmm, b, x, w, out=y)
        read = self._joined.get(id(x), [(x, slice(None))])
        sources = [part for part in read if id(part[0]) in self._wanted]
        learns = id(w) in self._wanted
        if not learns:
            for part in (x, *(part for part, _ in read if part is not x)):
                if id(part) not in self._wanted:
                    self._release(part)
        if learns or sources:
            self._wanted.add(id(y))
            self._unrecorded.append(partial(self._unrecord_linear, x, w, b, y, sources))
        return y

    def _unrecord_linear(
        self, x: Tensor, w: Tensor, b: Tensor, y: Tensor, sources: Sequence[tuple[Tensor, slice]]
    ) -> None:
        dy = self._gradients[id(y)]
        self._release(y)
        if id(w) in self._wanted:
            # A product straight into rows of the whole gradient takes twice as long as one into a place of its own.
            dw = self._take(w.shape)
            self._undo(torch.bmm, x.transpose(1, 2), dy, out=dw)
            self._undo(self._gradients[id(w)].copy_, dw)
            self._undo(torch.sum, dy, 1, keepdim=True, out=self._gradients[id(b)])
            self._release(dw)
            if id(x) in self._joined:
                self._release(x)
        for part, columns in sources:
            if id(part) not in self._gradients:
                self._gradients[id(part)] = self._take(part.shape)
            product = torch.mul if w.shape[-1] == 1 else torch.bmm
            self._undo(product, dy, w[:, columns].transpose(1, 2), out=self._gradients[id(part)])
        self._release(dy)

    def activation(self, which: Activation, x: Tensor) -> Tensor:
        """Elementwise, in place."""
        first = 0
        for name, rows in which if isinstance(which, tuple) else ((which, len(x)),):
            self._activate(name, x, slice(first, first + rows))
            first += rows
        return x

    def _activate(self, name: str, x: Tensor, rows: slice) -> None:
        if name == "ReLU":
            own = x[rows]
            self._do(own.relu_)
            if id(x) in self._wanted:

                def unrecord() -> None:
                    g = self._gradients[id(x)][rows]
                    self._undo(torch.ops.aten.threshold_backward.grad_input, g, own, 0, grad_input=g)

                self._unrecorded.append(unrecord)
        elif name != "Identity":
            self._differentiate(partial(OPS.activation, name), x, rows, ())

    def gated(self, which: Activation, g: Tensor, x: Tensor) -> Tensor:
        """`x + g * (activation(x) - x)`, in place."""
        self._differentiate(lambda x, g: OPS.gated(which, g, x), x, slice(None), (g,))
        return x

    def layer_norm(self, x: Tensor, scale: Tensor, bias: Tensor, valid: Tensor | None) -> Tensor:
        """Normalise the last axis over valid units, in place."""
        self._differentiate(lambda x, s, b: OPS.layer_norm(x, s, b, valid), x, slice(None), (scale, bias))
        return x

    def concat(self, xs: Sequence[Tensor]) -> Tensor:
        """Join along the last axis; a linear layer reads the result."""
        y = self._take((*xs[0].shape[:-1], sum(x.shape[-1] for x in xs)))
        self._do(torch.cat, list(xs), -1, out=y)
        self._joined[id(y)], at = [], 0
        for x in xs:
            self._joined[id(y)].append((x, slice(at, at + x.shape[-1])))
            at += x.shape[-1]
        return y

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Same numbers, other shape."""
        y = self._keep(x.view(shape))
        self._base[id(y)] = x
        if id(x) in self._wanted:
            self._wanted.add(id(y))

            def unrecord() -> None:
                dy = self._gradients[id(y)]
                dx = self._gradients[id(x)] = self._keep(dy.view(x.shape))
                self._base[id(dx)] = dy

            self._unrecorded.append(unrecord)
        return y

    def _differentiate(
        self, function: Callable[..., Tensor], x: Tensor, rows: slice, params: tuple[Tensor, ...]
    ) -> None:
        """An operation in place on rows of x that autograd takes back."""
        own = x[rows]
        if id(x) not in self._wanted:
            self._forward.append(lambda: own.copy_(function(own, *params)))
            return
        learnt = [id(p) in self._wanted for p in params]
        taped: list[tuple[Tensor, list[Tensor]]] = []

        def forward() -> None:
            with torch.enable_grad():
                leaves = [own.clone().requires_grad_()]
                leaves += [p.detach().requires_grad_(learns) for p, learns in zip(params, learnt, strict=True)]
                y = function(*leaves)
            taped[:] = [(y, [leaf for leaf in leaves if leaf.requires_grad])]
            own.copy_(y.detach())

        def unrecord() -> None:
            pull = self._gradients[id(x)][rows]
            targets = [pull, *(self._gradients[id(p)] for p, learns in zip(params, learnt, strict=True) if learns)]

            def backward() -> None:
                ((y, leaves),) = taped
                for target, found in zip(targets, torch.autograd.grad(y, leaves, pull), strict=True):
                    target.copy_(found)

            self._backward.append(backward)

        self._forward.append(forward)
        self._unrecorded.append(unrecord)

    def _do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._forward.append(partial(function, *args, **kwargs))

    def _undo(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._backward.append(partial(function, *args, **kwargs))

    def _keep(self, x: Tensor) -> Tensor:
        self._kept.append(x)
        return x

    def _take(self, shape: Sequence[int]) -> Tensor:
        """Memory for a result: the place that was free last is the likeliest to be in a cache."""
        if not self._free:
            self._free.append(self._places)
            self._places += 1
        place = self._free.pop()
        x = self._keep(self._scratch.place(place, shape, self._like))
        self._at[id(x)] = place
        return x

    def _release(self, x: Tensor) -> None:
        """What was read for the last time; inputs and parameters have no place."""
        while id(x) in self._base:
            x = self._base[id(x)]
        if id(x) in self._at:
            self._free.append(self._at.pop(id(x)))
