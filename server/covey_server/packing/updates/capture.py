"""A step with inputs and outputs that stay where they are: copy in, run, read out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from covey_server.packing.updates.backend import Step
from covey_server.packing.updates.trace import Described, Trace


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """What runs a step again, on the same memory every time.

    Attributes:
        inputs: Memory of its own that inputs are copied into.
        outputs: Where the results are after each run.
        play: Runs it: reads the inputs, writes the outputs, changes what the step changes.
        changed: All memory from outside that the step changes.
        outside: The tensors from outside that it uses, held so that they stay where they are.
        operations: What it does, and the Python arguments of that.
        signature: Equal for captures of the same code that run the same operators, whatever the numbers and shapes.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    play: Callable[[], None]
    changed: list[Tensor]
    outside: list[Tensor]
    operations: tuple[Described, ...]
    signature: Hashable

    @staticmethod
    def of(step: Step, trace: Trace, inputs: list[Tensor], outputs: list[Tensor], play: Callable[[], None]) -> Capture:
        """What a trace of the step has seen, and what runs it from now on."""
        described = trace.described()
        return Capture(
            inputs, outputs, play, trace.changed(), trace.outside(), described, signature_of(step, described)
        )

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run what was captured; returns the results that the step would, in tensors that the next call overwrites."""
        for own, x in zip(self.inputs, inputs, strict=True):
            own.copy_(x)
        self.play()
        return self.outputs


def signature_of(step: Step, operations: Sequence[Described]) -> Hashable:
    """An identity of the step's code and of the operators that it ran."""
    return hash((getattr(step, "__code__", None), tuple(function for function, _, _ in operations)))
