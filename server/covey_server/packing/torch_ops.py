"""The operations of neural network layers in torch; `covey.networks.ops.Ops` names them, actors have them in numpy.

Nothing here works in place, so that every operation can be differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from covey.networks.convolution import Window
from covey.networks.ops import ACTIVATIONS, Activation
from covey_server.packing.torch_modules import ModuleOps

COLUMNS = 16
"""Products with fewer columns than this are padded to it: a CPU's kernels take up to six times as long for 5 as for 16.

Which of the narrow ones are slow depends on the CPU, and whether the transposed product is faster does too.
"""


class TorchOps(ModuleOps):
    """The operations of neural network layers in torch, for one network or for several stacked along a leading axis."""

    def linear(self, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Compute `x @ w + b`; for stacked networks, as one batched matrix product."""
        if w.dim() == 2:
            return torch.addmm(b, x, w)
        if 1 in w.shape[1:]:
            return product(x, w) + _by_row(b)
        if w.shape[-1] < COLUMNS and x.device.type == "cpu" and not torch.compiler.is_compiling():
            # (torch.compile takes no such function.)
            y: Tensor = _NarrowLinear.apply(x, w, _by_row(b))  # type: ignore[no-untyped-call]
            return y
        return torch.baddbmm(_by_row(b), x, w)

    def activation(self, which: Activation, x: Tensor) -> Tensor:
        """Apply an activation function elementwise."""
        match which:
            case "ReLU":
                return torch.relu(x)
            case "ELU":
                return F.elu(x)
            case "GELU":
                return F.gelu(x)
            case "Tanh":
                return torch.tanh(x)
            case "Sigmoid":
                return torch.sigmoid(x)
            case "SiLU":
                return F.silu(x)
            case "LeakyReLU":
                return F.leaky_relu(x, 0.01)
            case "Softplus":
                # torch's own softplus turns linear above 20, numpy's logaddexp does not.
                return torch.logaddexp(x, torch.zeros((), dtype=x.dtype, device=x.device))
            case "Identity":
                return x
            case tuple():
                # Each row in one activation only: all of them for all rows and a choice take three times as long.
                parts = x.split_with_sizes([rows for _, rows in which])
                return torch.cat([self.activation(name, part) for (name, _), part in zip(which, parts, strict=True)])
        raise ValueError(f"activation {which!r}, expected one of {', '.join(ACTIVATIONS)}")

    def gated(self, which: Activation, g: Tensor, x: Tensor) -> Tensor:
        """Compute `x + g * (activation(x) - x)`: the activation where g is 1, x unchanged where g is 0."""
        return torch.lerp(x, self.activation(which, x), g if g.dim() == 1 else _by_row(g))

    def layer_norm(self, x: Tensor, scale: Tensor, bias: Tensor, valid: Tensor | None) -> Tensor:
        """Apply layer normalisation over the last axis; `valid` is 1 for units that count and 0 for padding."""
        if scale.dim() > 1:
            scale, bias = _by_row(scale), _by_row(bias)
        if valid is None:
            return F.layer_norm(x, x.shape[-1:], eps=1e-5) * scale + bias
        count = valid.sum(-1, keepdim=True)
        centred = (x - (x * valid).sum(-1, keepdim=True) / count) * valid
        variance = (centred * centred).sum(-1, keepdim=True) / count
        return centred * torch.rsqrt(variance + 1e-5) * scale + bias

    def gru(self, gates: Tensor, recurrent: Tensor, state: Tensor) -> Tensor:
        """Return the states of GRUs one step on, (..., H), from what inputs and states bring to the gates, (..., 3 H).

        The gates are r, z and n, one after another.
        """
        units = state.shape[-1]
        both = torch.sigmoid(gates[..., : 2 * units] + recurrent[..., : 2 * units])
        new = torch.tanh(gates[..., 2 * units :] + both[..., :units] * recurrent[..., 2 * units :])
        return new + both[..., units:] * (state - new)

    def convolution(self, x: Tensor, w: Tensor, b: Tensor, window: Window) -> Tensor:
        """Convolve images, rows of channels, for one network or for K stacked ones.

        On a CPU network by network, which takes about a third of the time of one convolution in K groups
        (benchmarks/convolutions.py); on a GPU, where launches cost more, in groups.
        """
        if w.dim() == 2:
            return convolved(x, w, b, window)
        if x.device.type != "cpu":
            return grouped_convolution(x, w, b, window)
        return network_by_network(x.unbind(), w, b, window)

    def channels_last(self, x: Tensor, channels: int) -> Tensor:
        """Reorder images whose numbers come channel by channel, (..., numbers), to pixel by pixel."""
        by_channel: Tensor = x.reshape(*x.shape[:-1], channels, -1)
        return by_channel.mT.reshape(x.shape)

    def columns(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Return the numbers from `start` to before `stop` of the last axis."""
        return x[..., start:stop]

    def copy(self, x: Tensor) -> Tensor:
        """Return the tensor itself, as no operation overwrites any."""
        return x

    def plus(self, x: Tensor, y: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return x + y

    def whole(self, x: Any) -> Tensor:
        """Return inputs as one tensor."""
        tensor: Tensor = x
        return tensor

    def joint(self, xs: Sequence[Tensor]) -> Any:
        """Put what a network's head reads side by side."""
        return self.concat(xs)

    def concat(self, xs: Sequence[Tensor]) -> Tensor:
        """Concatenate tensors along the last axis."""
        return torch.cat(list(xs), dim=-1)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Reshape a tensor."""
        return x.reshape(shape)


def convolved(x: Tensor, w: Tensor, b: Tensor, window: Window) -> Tensor:
    """Convolve one network's images: (B * height * width, channels) to (B * cells, outputs)."""
    kernel, channels = window.kernel, x.shape[-1]
    images = x.reshape(-1, window.height, window.width, channels).permute(0, 3, 1, 2)
    weights = w.reshape(kernel, kernel, channels, -1).permute(3, 2, 0, 1)
    y = F.conv2d(_cropped(images, window), weights, b.flatten(), window.stride, max(0, window.padding))
    return y.permute(0, 2, 3, 1).reshape(-1, w.shape[-1])


def grouped_convolution(x: Tensor, w: Tensor, b: Tensor, window: Window) -> Tensor:
    """Convolve images of K networks, (K, B * height * width, channels), as one convolution in K groups."""
    networks, _, channels = x.shape
    kernel, outputs = window.kernel, w.shape[-1]
    images = x.reshape(networks, -1, window.height, window.width, channels).permute(1, 0, 4, 2, 3).flatten(1, 2)
    weights = w.reshape(networks, kernel, kernel, channels, outputs).permute(0, 4, 3, 1, 2).flatten(0, 1)
    padding = max(0, window.padding)
    y = F.conv2d(_cropped(images, window), weights, b.flatten(), window.stride, padding, groups=networks)
    by_network = y.reshape(len(y), networks, outputs, *y.shape[2:])
    return by_network.permute(1, 0, 3, 4, 2).reshape(networks, -1, outputs)


def network_by_network(xs: Sequence[Tensor], w: Tensor, b: Tensor, window: Window) -> Tensor:
    """Convolve the images of each of K networks, K times (B * height * width, channels), with its own weights."""
    each = zip(xs, w.unbind(), b.unbind(), strict=True)
    return torch.stack([convolved(x, weights, bias, window) for x, weights, bias in each])


def _cropped(images: Tensor, window: Window) -> Tensor:
    """Leave out the pixels at the edges of images (..., height, width) that a negative padding says."""
    edge = -window.padding
    return images[..., edge:-edge, edge:-edge] if edge > 0 else images


class _NarrowLinear(torch.autograd.Function):
    """Batched `x @ w + b` for weights with few columns, which are padded with zeros for the product forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """Compute the product with padded weights and drop what the padding gave."""
        ctx.save_for_backward(x, w)
        narrow = w.shape[-1]
        wide = w.new_zeros(*w.shape[:-1], COLUMNS)
        wide[..., :narrow] = w
        return torch.bmm(x, wide)[..., :narrow] + b

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to x, w and b, None for those that need none."""
        (grad_out,) = grad_outputs
        x, w = ctx.saved_tensors
        for_x, for_w, for_b = ctx.needs_input_grad
        return (
            torch.bmm(grad_out, w.mT) if for_x else None,
            torch.bmm(grad_out.mT, x).mT if for_w else None,
            grad_out.sum(1, keepdim=True) if for_b else None,
        )


def product(x: Tensor, w: Tensor) -> Tensor:
    """Compute `x @ w` for stacked networks whose weights have one row or one column, without a matrix product.

    A product of such matrices is several times slower, backward too, than what it amounts to; and how it rounds depends
    on how many networks are stacked.
    """
    return x * w if w.shape[1] == 1 else (x * w.transpose(1, 2)).sum(-1, keepdim=True)


def gradients(y: Tensor, leaves: Sequence[Tensor], grad_out: Tensor) -> Sequence[Tensor]:
    """Return the gradients of a loss with respect to the leaves, given its gradient `grad_out` with respect to y.

    A leaf that y does not depend on has a gradient of zeros.
    """
    if torch.compiler.is_compiling():
        return torch.autograd.grad(y, leaves, grad_out, materialize_grads=True)
    with torch.enable_grad():
        total: Tensor = _WithGradient.apply(y, grad_out)  # type: ignore[no-untyped-call]
    return torch.autograd.grad(total, leaves, materialize_grads=True)


class _WithGradient(torch.autograd.Function):
    """Makes a scalar whose gradient with respect to a tensor y is a given one, so that backward starts from that.

    `torch.autograd.grad` with an upstream gradient as its own argument would import sympy, which takes a second.
    """

    @staticmethod
    def forward(ctx: Any, y: Tensor, grad_out: Tensor) -> Tensor:
        """Return a zero scalar and keep the given gradient; only the backward pass matters."""
        ctx.save_for_backward(grad_out)
        return y.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        """Return the gradient that `forward` was given as that with respect to y, whatever comes from above."""
        del grad_outputs
        (grad_out,) = ctx.saved_tensors
        return grad_out, None


def _by_row(p: Tensor) -> Tensor:
    """Reshape parameters of K stacked networks to (K, 1, units), so that they broadcast over samples."""
    return p if p.dim() == 3 else p.unsqueeze(1)
