"""Labels the axes of parameters with layers' names, from which padding and resizing of networks are derived."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring positions on a parameter's axis that belong to one layer: `repeat` positions for each of its units.

    `repeat` is for flattened convolutions, where a channel is `height x width` neighbouring positions.
    """

    label: str
    size: int
    repeat: int = 1

    @property
    def width(self) -> int:
        """Number of positions that the segment takes on its axis."""
        return self.size * self.repeat


Axis = tuple[Segment, ...]
"""The segments of one axis, in order; a concatenation has several, and a label may come more than once."""


@dataclass(frozen=True)
class ParamSpec:
    """One parameter of a network: its dotted name, its labelled axes, and its initial values.

    Attributes:
        name: Such as "head.0.weight".
        axes: The axes in order; weights are (inputs, outputs).
        init: Initial values; "uniform" is U(-bound, bound) with bound = gain / sqrt(fan_in), PyTorch's default for
            linear layers where gain is 1.
        fan_in: Inputs of the layer, for "uniform".
        gain: Factor of "uniform"; the value itself for "constant".
        inputs: How many of the leading axes are inputs: 1 for weights, 0 for biases.
        added: What weights with inputs are in a layer that evolution or padding adds: "identity", where it passes what
            it reads; in a residual block, which passes the stream by itself, "zeros" in its last layer, and as `init`
            says in the others. In padding these are 0 as well.
        products: How often one forward pass multiplies by each number: once for each pixel that a convolution gives.
    """

    name: str
    axes: tuple[Axis, ...]
    init: Literal["uniform", "zeros", "ones", "constant"]
    fan_in: int = 1
    gain: float = 1.0
    inputs: int = 0
    products: int = 1
    added: Literal["identity", "zeros", "init"] = "identity"

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter in its own network, without padding."""
        return tuple(axis_width(axis) for axis in self.axes)

    @cached_property
    def size(self) -> int:
        """Number of elements of the parameter."""
        return math.prod(self.shape)  # exact: a specification from elsewhere must not overflow to a small number


def axis_width(axis: Axis) -> int:
    """Return the length of a parameter's axis."""
    return sum(s.width for s in axis)


def positions(axis: Axis, wider: Axis) -> NDArray[np.intp]:
    """Find where an axis's positions lie on a wider, padded one: each layer's segment begins where its wider one does.

    Args:
        axis: For example hidden units of 3 and extra inputs of 2.
        wider: The same labels in the same order, no segment smaller; such as units of 5 and inputs of 2.

    Returns:
        (axis_width(axis),) indices into `wider`; in the example 0, 1, 2, 5, 6.

    Raises:
        ValueError: the labels differ, or a segment is smaller.
    """
    indices, offset = [], 0
    for small, large in zip(axis, wider, strict=True):
        if (small.label, small.repeat) != (large.label, large.repeat) or small.size > large.size:
            raise ValueError(f"axis segment {small} does not fit into {large}")
        indices.append(np.arange(offset, offset + small.width))
        offset += large.width
    return np.concatenate(indices) if indices else np.empty(0, np.intp)


def kept(axis: Axis, label: str, units: Sequence[int] | NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the positions of an axis that remain when only some units of one layer are kept.

    Segments of other layers remain whole.
    """
    indices, offset = [], 0
    for s in axis:
        if s.label == label:
            starts = offset + np.asarray(units, np.intp)[:, None] * s.repeat
            indices.append((starts + np.arange(s.repeat)).ravel())
        else:
            indices.append(np.arange(offset, offset + s.width))
        offset += s.width
    return np.concatenate(indices) if indices else np.empty(0, np.intp)
