"""Runs updates from recordings: flat lists of tensor operations whose results have fixed places in one block of memory.

At the sizes of most policies an operation costs by the call, and by the memory that it finds cold: Python around it,
autograd's bookkeeping, views made anew and results in ever other places are more than the arithmetic. A recording has
none of that, as a CUDA graph has none of the launches. What it computes is what the step computes, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from covey_server.packing.updates.backend import Step
from covey_server.packing.updates.capture import Capture
from covey_server.packing.updates.operators import call_of
from covey_server.packing.updates.placement import lives_of, place
from covey_server.packing.updates.replayed import Replayed
from covey_server.packing.updates.trace import Trace, storage
from covey_server.packing.updates.verification import Verification


class Memory:
    """One block of memory for the results of all recorded updates; they share it as no two run at a time."""

    def __init__(self) -> None:
        self._block = torch.empty(0, dtype=torch.uint8)

    def of(self, size: int, device: torch.device) -> Tensor:
        """Return a block of at least `size` bytes; recordings made with an earlier, smaller block keep that."""
        if self._block.numel() < size or self._block.device != device:
            self._block = torch.empty(size, dtype=torch.uint8, device=device)
        return self._block


class Recorded(Replayed):
    """Runs updates from recorded lists of tensor operations, on any device; results equal eager ones bit for bit."""

    exact = True

    def __init__(self, seen: Verification | None = None) -> None:
        super().__init__(seen)
        self._memory = Memory()

    def capture(self, step: Step, inputs: Sequence[Tensor]) -> tuple[Capture | None, Sequence[Tensor]]:
        """Run a step while its operations are traced, and make a recording of them, None if that fails."""
        own = [x.clone() for x in inputs]
        trace = Trace()
        with trace:
            results = step(*own)
        try:
            capture = recording_of(step, trace, own, results, self._memory)
        except Exception as exc:  # a torch whose operators are described in another way: the results are there
            self._seen.distrust(f"{type(exc).__name__}: {exc}")
            return None, results
        return (capture if self._seen.may_run(capture) else None), results


def recording_of(step: Step, trace: Trace, inputs: list[Tensor], results: Sequence[Tensor], memory: Memory) -> Capture:
    """Make a recording, which can be run again, from the trace of one run of a step.

    Args:
        step: The step that was traced.
        trace: The operations of one run.
        inputs: What that run was given; they become the recording's own.
        results: What it returned.
        memory: Holds the results of operations.
    """
    lives = lives_of(trace.operations, results)
    block = memory.of(place(lives.values()), inputs[0].device)
    moved: dict[int, Tensor] = {}

    def placed(x: Any) -> Any:
        """Return a tensor's view in the recording's own block, or the tensor itself if the step has not made it."""
        if not isinstance(x, Tensor):
            return x
        life = lives.get(storage(x))
        if life is None:
            return x.detach()
        if id(x) not in moved:
            memory_of_life = block[life.offset : life.offset + life.size].view(x.dtype)
            offset = memory_of_life.storage_offset() + x.storage_offset()
            moved[id(x)] = memory_of_life.as_strided(x.shape, x.stride(), offset)
        return moved[id(x)]

    calls = [call_of(operation, placed) for operation in trace.operations]
    return Capture.of(step, trace, inputs, [placed(x) for x in results], _one_after_the_other(calls))


def _one_after_the_other(calls: list[Callable[[], Any]]) -> Callable[[], None]:
    def play() -> None:
        for call in calls:
            call()

    return play
