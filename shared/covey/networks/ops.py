"""The operations that networks are made of, with numpy; the learner registers its own with torch (`covey.ops`).

Every operation takes weights of one network, `w (in, out)` with `x (B, in)` of B samples, or of a pack of K networks,
`w (K, in, out)` with `x (K, B, in)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from covey.networks.convolution import Convolution, Window

Array = Any
"""A numpy array or a torch tensor: networks are written once for both."""

ACTIVATIONS = (
    "ReLU",
    "ELU",
    "GELU",
    "Tanh",
    "Sigmoid",
    "SiLU",
    "LeakyReLU",
    "Softplus",
    "Identity",
)
IDEMPOTENT = frozenset({"ReLU", "Identity"})
"""Activations with f(f(x)) = f(x): an inserted identity layer leaves the network's function as it was."""

Activation = str | tuple[tuple[str, int], ...]
"""One of ACTIVATIONS for all networks of a pack; or (name, count) for each run of neighbouring networks, in order."""


class Ops(Protocol):
    """The operations of neural network layers that a backend, numpy or torch, provides."""

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        """Compute `x @ w + b`, for one network or for K stacked ones."""
        ...

    def activation(self, which: Activation, x: Array) -> Array:
        """Apply an activation function elementwise; may overwrite x."""
        ...

    def gated(self, which: Activation, g: Array, x: Array) -> Array:
        """Compute `x + g * (activation(x) - x)`, exact where a gate g is 0 or 1.

        The gates are (units), or (K, units) for K stacked networks.
        """
        ...

    def layer_norm(self, x: Array, scale: Array, bias: Array, valid: Array | None) -> Array:
        """Apply layer normalisation over the last axis, counting only valid units (all where None); eps 1e-5.

        `valid` is `(K, 1, units)` of 0 and 1; outputs of invalid units are 0.
        """
        ...

    def gru(self, gates: Array, recurrent: Array, state: Array) -> Array:
        """Return the states of GRUs one step on, as `covey.networks.recurrent` has it: (B, H), or (K, B, H).

        `gates` is what the inputs, and `recurrent` what the states bring to the gates r, z and n, (B, 3 H) each.
        """
        ...

    def convolution(self, x: Array, w: Array, b: Array, window: Window) -> Array:
        """Convolve images, (B * height * width, channels) or (K, B * height * width, channels) for K stacked networks.

        Weights are (kernel * kernel * channels, outputs); returns (B * cells, outputs), a row for each window.
        """
        ...

    def module(self, encoder: Any, params: Mapping[str, Array], x: Array) -> Array:
        """Compute a `torch.nn.Module` of one's own, `covey.networks.torch_module.TorchModule`, by its own parameters.

        Returns (B, features) from (B, numbers), or (K, B, features) from (K, B, numbers) for K stacked networks.
        """
        ...

    def channels_last(self, x: Array, channels: int) -> Array:
        """Reorder images whose numbers come channel by channel, (..., numbers), to pixel by pixel."""
        ...

    def columns(self, x: Array, start: int, stop: int) -> Array:
        """Return the numbers from `start` to before `stop` of the last axis."""
        ...

    def concat(self, xs: Sequence[Array]) -> Array:
        """Concatenate arrays along the last axis."""
        ...

    def copy(self, x: Array) -> Array:
        """Return an array that later operations may overwrite, so that x stays."""
        ...

    def plus(self, x: Array, y: Array) -> Array:
        """Add two arrays of one shape."""
        ...

    def whole(self, x: Array) -> Array:
        """Return inputs as one array, on which every computation works, for encoders of others' kinds."""
        ...

    def joint(self, xs: Sequence[Array]) -> Array:
        """Put what a network's head reads side by side: the latents of its encoders, and extra inputs."""
        ...

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Reshape an array."""
        ...


def _erf(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Compute the error function by math.erf, as numpy has none and usual approximations are too coarse."""
    return np.frompyfunc(math.erf, 1, 1)(x).astype(x.dtype)  # type: ignore[no-any-return]


class NumpyOps:
    """The operations of neural network layers in numpy, which actors use."""

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        """Compute `x @ w + b`, for one network or for K stacked ones."""
        if w.shape[-1] == 1 or x.shape[-2] == 1:
            # OpenBLAS's matrix-vector products read past the end of what they use, and may flag what they find there
            # as invalid; their results are right.
            with np.errstate(invalid="ignore"):
                y = np.matmul(x, w)
        else:
            y = np.matmul(x, w)
        y += b if w.ndim == 2 else b[:, None, :]
        return y

    def activation(self, which: Activation, x: Array) -> Array:
        """Apply an activation function elementwise; may overwrite x."""
        match which:
            case "ReLU":
                return np.maximum(x, 0, out=x)
            case "Tanh":
                return np.tanh(x, out=x)
            case "ELU":
                return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
            case "GELU":
                return x * 0.5 * (1 + _erf(x * x.dtype.type(1 / math.sqrt(2))))
            case "Sigmoid":
                return _sigmoid(x)
            case "SiLU":
                return x * _sigmoid(x)
            case "LeakyReLU":
                return np.where(x > 0, x, x * x.dtype.type(0.01))
            case "Softplus":
                return np.logaddexp(x, 0).astype(x.dtype)
            case "Identity":
                return x
            case tuple():
                first = 0
                for name, rows in which:
                    block = x[first : first + rows]
                    y = self.activation(name, block)
                    if y is not block:
                        block[...] = y
                    first += rows
                return x
        raise ValueError(f"activation {which!r}, expected one of {', '.join(ACTIVATIONS)}")

    def gated(self, which: Activation, g: Array, x: Array) -> Array:
        """Compute `x + g * (activation(x) - x)`, exact where a gate g is 0 or 1."""
        g = g if g.ndim == 1 else g[:, None, :]
        y = self.activation(which, x.copy())
        return x * (1 - g) + y * g

    def layer_norm(self, x: Array, scale: Array, bias: Array, valid: Array | None) -> Array:
        """Apply layer normalisation over the last axis, counting only units that `valid` marks with 1."""
        if valid is None:
            valid = np.ones((1,) * x.ndim, x.dtype)
            count = x.shape[-1]
        else:
            count = valid.sum(-1, keepdims=True)
        # Over valid units alone: padding must not shift the mean and the variance.
        mean = (x * valid).sum(-1, keepdims=True) / count
        centred = (x - mean) * valid
        variance = (centred * centred).sum(-1, keepdims=True) / count
        normal = centred / np.sqrt(variance + x.dtype.type(1e-5))
        if scale.ndim == 2:
            scale, bias = scale[:, None, :], bias[:, None, :]
        return normal * scale + bias

    def gru(self, gates: Array, recurrent: Array, state: Array) -> Array:
        """Return the states of GRUs one step on."""
        units = state.shape[-1]
        both = _sigmoid(gates[..., : 2 * units] + recurrent[..., : 2 * units])
        new = np.tanh(gates[..., 2 * units :] + both[..., :units] * recurrent[..., 2 * units :])
        return new + both[..., units:] * (state - new)

    def convolution(self, x: Array, w: Array, b: Array, window: Window) -> Array:
        """Convolve images, rows of channels, for one network or for K stacked ones."""
        if x.ndim == 2:
            return Convolution(x[None], w[None], b[None], window)()[0]
        return Convolution(x, w, b, window)()

    def module(self, encoder: Any, params: Mapping[str, Array], x: Array) -> Array:
        """Compute a `torch.nn.Module` of one's own, by torch, which must be installed."""
        return encoder.load().module_of_arrays(encoder, params, x)

    def channels_last(self, x: Array, channels: int) -> Array:
        """Reorder images whose numbers come channel by channel, (..., numbers), to pixel by pixel."""
        return np.ascontiguousarray(x.reshape(*x.shape[:-1], channels, -1).swapaxes(-1, -2)).reshape(x.shape)

    def columns(self, x: Array, start: int, stop: int) -> Array:
        """Return the numbers from `start` to before `stop` of the last axis."""
        return np.ascontiguousarray(x[..., start:stop])

    def copy(self, x: Array) -> Array:
        """Return a copy."""
        return x.copy()

    def plus(self, x: Array, y: Array) -> Array:
        """Add two arrays of one shape."""
        return x + y

    def whole(self, x: Array) -> Array:
        """Return inputs as they are: one array."""
        return x

    def joint(self, xs: Sequence[Array]) -> Array:
        """Put what a network's head reads side by side."""
        return self.concat(xs)

    def concat(self, xs: Sequence[Array]) -> Array:
        """Concatenate arrays along the last axis."""
        return np.concatenate(xs, axis=-1)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Reshape an array."""
        return x.reshape(shape)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))
