"""Records the numpy operations of one forward pass, to compute them again at every env step without overhead.

At an actor's sizes the Python around an operation, allocating its result, and broadcasting vectors over rows cost more
than the arithmetic does. A tape leaves them out; its results are the same to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covey.networks import NumpyOps
from covey.networks.convolution import Convolution, Window
from covey.networks.ops import Activation, Array

# Computes what has no in-place form here. Not the tape's own inherited methods: bound to the tape, they would make a
# cycle of references, which only the garbage collector frees, with all weights in it.
_COMPUTED = NumpyOps()


class Tape(NumpyOps):
    """Records the numpy operations of one forward pass of stacked networks; `replay` computes them again.

    Each result has memory of its own. A replay reads the arrays that `apply` was given anew, and writes its outputs to
    the array that `apply` returned.
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._reads_beyond = False

    def replay(self) -> None:
        """Compute all recorded operations again, from what the input arrays hold now."""
        if self._reads_beyond:
            with np.errstate(invalid="ignore"):
                for call in self._calls:
                    call()
            return
        for call in self._calls:
            call()

    def linear(self, x: Array, w: Array, b: Array) -> Array:
        """Compute `x @ w + b` for stacked networks, now and in every replay."""
        policies, rows, _ = x.shape
        y = np.empty((policies, rows, w.shape[-1]), x.dtype)
        # As in NumpyOps: OpenBLAS's matrix-vector products may flag memory past their operands' end as invalid.
        self._reads_beyond |= w.shape[-1] == 1 or rows == 1
        self._do(np.matmul, x, w, out=y)
        self._do(np.add, y, np.repeat(b[:, None, :], rows, 1), out=y)
        return y

    def activation(self, which: Activation, x: Array) -> Array:
        """Apply an activation function elementwise and in place, now and in every replay."""
        if isinstance(which, tuple):
            first = 0
            for name, rows in which:
                self.activation(name, x[first : first + rows])
                first += rows
        elif which == "ReLU":
            self._do(np.maximum, x, np.zeros_like(x), out=x)
        elif which != "Identity":
            self._fill(x, functools.partial(_COMPUTED.activation, which, x))
        return x

    def gated(self, which: Activation, g: Array, x: Array) -> Array:
        """Compute `x + g * (activation(x) - x)` in place, now and in every replay."""
        return self._fill(x, functools.partial(_COMPUTED.gated, which, g, x))

    def layer_norm(self, x: Array, scale: Array, bias: Array, valid: Array | None) -> Array:
        """Apply layer normalisation over the last axis in place, counting only valid units, now and in every replay."""
        return self._fill(x, functools.partial(_COMPUTED.layer_norm, x, scale, bias, valid))

    def gru(self, gates: Array, recurrent: Array, state: Array) -> Array:
        """Compute the states of GRUs one step on, now and in every replay."""
        return self._fill(np.empty_like(state), functools.partial(_COMPUTED.gru, gates, recurrent, state))

    def convolution(self, x: Array, w: Array, b: Array, window: Window) -> Array:
        """Convolve images for stacked networks, now and in every replay."""
        convolution = Convolution(x, w, b, window)
        self._do(convolution)
        return convolution.y

    def module(self, encoder: Any, params: Mapping[str, Array], x: Array) -> Array:
        """Compute a `torch.nn.Module` of one's own for stacked networks, now and in every replay."""
        y = np.empty((*x.shape[:-1], encoder.features), np.float32)
        return self._fill(y, functools.partial(_COMPUTED.module, encoder, params, x))

    def channels_last(self, x: Array, channels: int) -> Array:
        """Reorder images that come channel by channel to pixel by pixel, now and in every replay."""
        by_channel = x.reshape(*x.shape[:-1], channels, -1)
        y = np.empty((*x.shape[:-1], by_channel.shape[-1], channels), x.dtype)
        self._do(np.copyto, y, by_channel.swapaxes(-1, -2))
        return y.reshape(x.shape)

    def columns(self, x: Array, start: int, stop: int) -> Array:
        """Copy some numbers of the last axis, now and in every replay."""
        y = np.empty((*x.shape[:-1], stop - start), x.dtype)
        self._do(np.copyto, y, x[..., start:stop])
        return y

    def copy(self, x: Array) -> Array:
        """Copy an array, now and in every replay."""
        y = np.empty_like(x)
        self._do(np.copyto, y, x)
        return y

    def plus(self, x: Array, y: Array) -> Array:
        """Add two arrays of one shape, now and in every replay."""
        z = np.empty_like(x)
        self._do(np.add, x, y, out=z)
        return z

    def concat(self, xs: Sequence[Array]) -> Array:
        """Concatenate along the last axis, now and in every replay."""
        y = np.concatenate(xs, axis=-1)
        self._do(np.concatenate, xs, axis=-1, out=y)
        return y

    def _do(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call a function now, and record the call for every replay."""
        call = functools.partial(function, *args, **kwargs)
        call()
        self._calls.append(call)

    def _fill(self, target: NDArray[Any], compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Write the result of a computation into `target`, now and in every replay."""

        def fill() -> None:
            target[...] = compute()

        self._do(fill)
        return target


class Recomputed:
    """Computes a forward pass anew at every env step, where a tape could miss what was not computed by its operations.

    That is so with encoders of kinds that packages have installed, which may compute with arrays as they like.

    Args:
        apply: Computes outputs (K, B, D) of K stacked policies from operations and inputs (K, B, W).
        x: The inputs, which stay in their place.
        y: Where outputs go.
    """

    def __init__(self, apply: Callable[[NumpyOps, Array], Array], x: NDArray[Any], y: NDArray[Any]) -> None:
        self._apply, self._x, self._y = apply, x, y

    def replay(self) -> None:
        """Compute the pass again, from what the inputs hold now."""
        self._y[...] = self._apply(_COMPUTED, self._x.copy())  # a copy, as operations may overwrite what they read
