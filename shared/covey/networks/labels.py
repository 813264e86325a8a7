"""Labels of parameter axes: the one thing that padding, growth, removal and moments are derived from."""

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
    """A run of positions on an axis: `size` units of the thing called `label`, `repeat` positions each.

    `repeat` is for flattened convolutions, where a channel is `height x width` neighbouring positions.
    """

    label: str
    size: int
    repeat: int = 1

    @property
    def width(self) -> int:
        """Positions that the segment takes."""
        return self.size * self.repeat


Axis = tuple[Segment, ...]
"""The segments of one axis, in order; a concatenation has several, and a label may come more than once."""


@dataclass(frozen=True)
class ParamSpec:
    """One parameter: its dotted name, its axes, and how it starts.

    `uniform` is U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for linear layers. `gain` scales it; of
    `constant` it is the value.
    Weights are (inputs, outputs); `inputs` counts the leading axes that are inputs (0 for biases).
    """

    name: str
    axes: tuple[Axis, ...]
    init: Literal["uniform", "zeros", "ones", "constant"]
    fan_in: int = 1
    gain: float = 1.0
    inputs: int = 0

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The parameter's natural shape."""
        return tuple(axis_width(axis) for axis in self.axes)

    @cached_property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)  # exact: a specification from elsewhere must not overflow to a small number


def axis_width(axis: Axis) -> int:
    """Positions on an axis."""
    return sum(s.width for s in axis)


def positions(axis: Axis, wider: Axis) -> NDArray[np.intp]:
    """Where the positions of `axis` lie on `wider`: same labels in the same order, no segment smaller.

    Returns:
        (axis_width(axis),) indices into `wider`.
    """
    parts, offset = [], 0
    for small, large in zip(axis, wider, strict=True):
        if (small.label, small.repeat) != (large.label, large.repeat) or small.size > large.size:
            raise ValueError(f"axis segment {small} does not fit into {large}")
        parts.append(np.arange(offset, offset + small.width))
        offset += large.width
    return np.concatenate(parts) if parts else np.empty(0, np.intp)


def kept(axis: Axis, label: str, units: Sequence[int] | NDArray[np.intp]) -> NDArray[np.intp]:
    """Positions of `axis` that remain when only `units` of `label` are kept."""
    parts, offset = [], 0
    for s in axis:
        if s.label == label:
            starts = offset + np.asarray(units, np.intp)[:, None] * s.repeat
            parts.append((starts + np.arange(s.repeat)).ravel())
        else:
            parts.append(np.arange(offset, offset + s.width))
        offset += s.width
    return np.concatenate(parts) if parts else np.empty(0, np.intp)
