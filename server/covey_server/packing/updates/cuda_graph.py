"""Runs the steps of updates as CUDA graphs: all kernel launches of a step as one.

Written against `torch.cuda.graph`; https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs has its rules.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from covey_server.packing.updates.backend import Step
from covey_server.packing.updates.capture import Capture
from covey_server.packing.updates.replayed import Replayed
from covey_server.packing.updates.trace import Trace
from covey_server.packing.updates.verification import Verification


class CudaGraphs(Replayed):
    """Runs the steps of updates as CUDA graphs, each captured on the second call under its key.

    The first, eager run of a key warms up what CUDA libraries set up once. A capture runs nothing: it notes launches.
    Graphs share one pool of memory, as no two run at the same time and results are read before the next one runs.
    Results may differ from an eager run by rounding: libraries may choose other kernels, and atomic sums have no order.
    """

    exact = False

    def __init__(self, seen: Verification | None = None) -> None:
        super().__init__(seen)
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, step: Step, inputs: Sequence[Tensor]) -> tuple[Capture | None, Sequence[Tensor]]:
        """Run a step eagerly and capture it as a CUDA graph; the graph is None if that fails."""
        own = [x.clone() for x in inputs]
        # First, so that whatever the step keeps on the device (which rows, whose members) is there: nothing can be
        # copied to it during a capture.
        results = step(*own)
        device = own[0].device
        graph, trace = torch.cuda.CUDAGraph(), Trace()
        try:
            # The outermost context brings the thread back to its own stream, which `torch.cuda.graph` does not where a
            # capture fails. "thread_local": meanwhile other threads store experience and read policies, on this device.
            with (
                torch.cuda.stream(torch.cuda.current_stream(device)),
                torch.cuda.graph(graph, self._pool, _stream(device), capture_error_mode="thread_local"),
                trace,
            ):
                outputs = list(step(*own))
        except RuntimeError as exc:  # such as a copy from the host, or a wait for the device
            self._seen.distrust(f"it cannot be captured: {exc}")
            return None, results
        capture = Capture.of(step, trace, own, outputs, graph.replay)
        return (capture if self._seen.may_run(capture) else None), results


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of a device on which all its graphs are captured: CUDA libraries keep memory for each stream.

    torch's own such stream is on whichever device was current first.
    """
    return torch.cuda.Stream(device)
