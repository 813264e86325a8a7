"""The interface between learning algorithms and what runs their updates: eager calls, recordings or compiled code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import ClassVar, ParamSpec, TypeVar

from torch import Tensor

Step = Callable[..., Sequence[Tensor]]
"""One step of an update: a function of tensors, which returns tensors.

It may read and change tensors that it is not given, such as the matrices of a pack, as long as these stay where they
are. Whatever else it decides by (which members, which rows, whether policies learn too) must be in the key that it is
run under, or an input. It may not wait for the device.
"""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class UpdateBackend(ABC):
    """Runs the steps of a population's gradient updates; a step is a function of tensors that returns tensors.

    Attributes:
        multiple: Layers and batches are padded to multiples of this: of a cache line's 16 numbers, as a CPU's kernels
            round by where in a line a number lies, and so that most mutations keep shapes.
        cut: Whether a pack computes no more samples than its own members learn from.
    """

    multiple: ClassVar[int] = 16
    cut: ClassVar[bool] = True

    def padded(self, samples: int) -> int:
        """Return the size of batches from which members learn that need so many samples."""
        return -(-samples // self.multiple) * self.multiple

    def pure(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Return the same function in the form that this backend runs best, such as compiled.

        Args:
            function: Computes tensors from its arguments and changes nothing: gradients from a batch, for example.
        """
        return function

    @abstractmethod
    def run(self, key: Hashable, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run a step of an update; calls under one key may be answered by running what was recorded of an earlier call.

        Args:
            key: Equal for calls that do the same operations with the same numbers, on inputs of the same shapes.
            step: The step; under one key it may be another function object every time, if it does the same.
            inputs: What it is given. They are copied where the backend needs them in memory of its own.

        Returns:
            What the step returns. The next run may overwrite these tensors: clone what is to be kept.
        """
