"""A recorded step of an update, with inputs and outputs at fixed places in memory: copy in, run, read out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from covey_server.packing.updates.backend import Step
from covey_server.packing.updates.trace import Described, Trace


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """A recorded step of an update, which can be run again on the same memory with other inputs.

    Attributes:
        inputs: Memory of its own that inputs are copied into.
        outputs: Where the results are after each run.
        play: Runs the recording: reads `inputs`, writes `outputs`, changes whatever other tensors the step changes.
        changed: All memory from outside of the step that it changes, such as parameters.
        outside: The tensors from outside of the step that it uses, held so that they stay where they are.
        operations: The operators that it runs, and their arguments that are no tensors.
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
        """Make a capture from a trace of the operations that a step ran and a function that runs them again."""
        described = trace.described()
        return Capture(
            inputs, outputs, play, trace.changed(), trace.outside(), described, signature_of(step, described)
        )

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Copy the inputs in and run the recording; the results are in tensors that the next call overwrites."""
        for own, x in zip(self.inputs, inputs, strict=True):
            own.copy_(x)
        self.play()
        return self.outputs


def signature_of(step: Step, operations: Sequence[Described]) -> Hashable:
    """Return a hash of the step's Python code and of the operators that it ran."""
    return hash((getattr(step, "__code__", None), tuple(function for function, _, _ in operations)))
