"""Two-dimensional convolution: where its windows lie in an image, and its computation with numpy.

Images lie as rows of channels, (images * height * width, channels), so that a convolution is a matrix product with
weights (kernel * kernel * channels, outputs), and what follows a layer is the same for images and vectors. Example: an
image of 5 x 4 pixels, kernel 3, stride 1, has 3 x 2 windows; each is a row of 9 pixels times its channels.

Dims: K networks, B images, H x W pixels, C channels of them, O channels that come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 19
"""Pixels of windows that are gathered at once: few enough to be in a processor's cache when they are multiplied."""

SMALL_PRODUCT = 1_000_000
"""Multiplications of a matrix product up to which OpenBLAS leaves its operands where they are: with as few outputs as
a layer of a convolution has, moving them takes as long as multiplying. Larger products are split into such ones."""

NARROW = 64
"""Numbers in a band of a window below which one product with the whole window takes less time than several."""

FEWEST_ROWS = 8
"""Rows of a product below which splitting costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Window:
    """A square window that moves over an image of `height` x `width` pixels in steps of `stride`.

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        kernel: Rows and columns of the window.
        stride: Pixels from one window to the next.
        padding: Zeros around the image; a negative number leaves out so many pixels at each edge.
    """

    height: int
    width: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @property
    def rows(self) -> int:
        """Height of the output: number of window positions along the height of the image."""
        return (self.height + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def columns(self) -> int:
        """Width of the output: number of window positions along the width of the image."""
        return (self.width + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def cells(self) -> int:
        """Number of pixels of the output, one for each window position."""
        return self.rows * self.columns


def folded(
    w: NDArray[np.float32], b: NDArray[np.float32], after: NDArray[np.float32], window: Window
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fold a convolution into the layer that reads all of its pixels, as if nothing were between them.

    Args:
        w: Weights of the convolution, (kernel * kernel * C, O).
        b: Its bias, (O,).
        after: Weights of the layer after it, (cells * O + E, outputs), E further inputs that it reads.
        window: How the convolution's windows lie.

    Returns:
        Weights of a layer that reads the convolution's input instead, (H * W * C + E, outputs), and what its bias adds.
    """
    outputs = after.shape[1]
    kernel, stride, padding = window.kernel, window.stride, window.padding
    taps = w.reshape(kernel, kernel, -1, w.shape[1])
    read = window.cells * w.shape[1]
    grid = after[:read].reshape(window.rows, window.columns, w.shape[1], outputs)
    new = np.zeros((window.height, window.width, taps.shape[2], outputs), np.float32)
    # For each place in a window: the pixels that stand there in some window, and these windows.
    for i in range(kernel):
        rows = np.arange(window.rows) * stride + i - padding
        its_rows = np.flatnonzero((rows >= 0) & (rows < window.height))
        for j in range(kernel):
            columns = np.arange(window.columns) * stride + j - padding
            its_columns = np.flatnonzero((columns >= 0) & (columns < window.width))
            part = np.matmul(taps[i, j], grid[np.ix_(its_rows, its_columns)])
            new[np.ix_(rows[its_rows], columns[its_columns])] += part
    return np.concatenate([new.reshape(-1, outputs), after[read:]]), b @ grid.sum((0, 1))


class Convolution:
    """A convolution of given arrays with numpy, computed as often as it is called; what it needs is allocated once.

    The pixels of some images' windows are copied side by side and multiplied by the weights, block by block. Where the
    stride divides the kernel, neighbouring windows share most of their rows: only `stride` of these are copied for
    each, and the product is the sum of one for each such band of a window:

        y[row] = bands[row] w[first rows] + bands[row + 1] w[next rows] + ...

    Args:
        x: (K, B * H * W, C), contiguous; read at each call.
        w: (K, kernel * kernel * C, O).
        b: (K, O).
        window: How the window moves.

    Attributes:
        y: (K, B * cells, O), overwritten by each call.
    """

    def __init__(self, x: NDArray[Any], w: NDArray[Any], b: NDArray[Any], window: Window) -> None:
        networks, pixels, channels = x.shape
        images = pixels // (window.height * window.width)
        grid = x.reshape(networks, images, window.height, window.width, channels)
        p = window.padding
        self._border: tuple[NDArray[Any], NDArray[Any]] | None = None
        if p > 0:
            padded = np.zeros((networks, images, window.height + 2 * p, window.width + 2 * p, channels), x.dtype)
            self._border = padded[:, :, p:-p, p:-p], grid
            grid = padded
        elif p < 0:
            grid = grid[:, :, -p:p, -p:p]
        self.y = np.empty((networks, images * window.cells, w.shape[-1]), x.dtype)
        # OpenBLAS's matrix-vector products may flag memory past their operands' end as invalid.
        self._reads_beyond = w.shape[-1] == 1 or window.cells == 1
        self._calls = list(_calls(grid, w, b, self.y, window))

    def __call__(self) -> NDArray[Any]:
        """Compute the convolution from what x holds now; returns `y`."""
        if self._border is not None:
            inner, image = self._border
            np.copyto(inner, image)
        if self._reads_beyond:
            with np.errstate(invalid="ignore"):
                for call in self._calls:
                    call()
        else:
            for call in self._calls:
                call()
        return self.y


def _calls(
    grid: NDArray[Any], w: NDArray[Any], b: NDArray[Any], y: NDArray[Any], window: Window
) -> Iterator[Callable[[], object]]:
    """Yield the operations of a convolution in order, for images (K, B, H, W, C).

    Each block of images is few enough numbers to stay in a processor's cache.
    """
    networks, images, _, _, channels = grid.shape
    banded = window.kernel % window.stride == 0 and window.stride * window.kernel * channels >= NARROW
    bands = window.kernel // window.stride if banded else 1
    high = window.kernel // bands  # rows of pixels in a band
    width, outputs = high * window.kernel * channels, w.shape[-1]
    rows = window.rows + bands - 1
    network, image, row, pixel, number = grid.strides
    # (K, B, rows of bands, windows in a row, pixel rows, pixels * C): pixels in a row lie side by side in memory.
    gathered = np.lib.stride_tricks.as_strided(
        grid,
        (networks, images, rows, window.columns, high, window.kernel * channels),
        (network, image, window.stride * row, window.stride * pixel, row, number),
        writeable=False,
    )
    together = min(images, max(1, BLOCK_BYTES // (grid.itemsize * rows * window.columns * width)))  # images of a block
    memory = np.empty((together, rows * window.columns, width), grid.dtype)
    split = _split(window.cells, width * outputs)
    added = np.empty((together, window.cells, outputs), grid.dtype)
    for k in range(networks):
        bias = np.repeat(b[k][None], together * window.cells, 0).reshape(added.shape)
        weights = w[k].reshape(bands, width, outputs)
        for first in range(0, images, together):
            source = gathered[k, first : first + together]
            its = len(source)
            result = y[k, first * window.cells :][: its * window.cells].reshape(its, window.cells, outputs)
            yield partial(np.copyto, memory[:its].reshape(source.shape), source)
            for j, part in enumerate(weights):
                read = memory[:its, j * window.columns :][:, : window.cells]
                target = added[:its] if j else result
                shape = (its, -1, split)
                yield partial(np.matmul, read.reshape(*shape, width), part, out=target.reshape(*shape, outputs))
                yield partial(np.add, result, target if j else bias[:its], out=result)


def _split(rows: int, products: int) -> int:
    """Return how many rows of a matrix to multiply at a time: a divisor of them all.

    Args:
        rows: All rows.
        products: Multiplications of one row.
    """
    most = SMALL_PRODUCT // products
    return next((n for n in range(min(most, rows), FEWEST_ROWS - 1, -1) if rows % n == 0), rows)
