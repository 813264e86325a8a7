"""Runs the steps of updates as CUDA graphs: all kernel launches of a step as one.

Written against `torch.cuda.graph`; https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs has its rules.
"""

from __future__ import annotations

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
        """Capture a step as a CUDA graph and run that once; returns None and eager results if that fails."""
        own = [x.clone() for x in inputs]
        graph, trace = torch.cuda.CUDAGraph(), Trace()
        try:
            with torch.cuda.graph(graph, pool=self._pool), trace:
                outputs = list(step(*own))
        except RuntimeError as exc:  # such as a copy from the host, or a wait for the device; it has run eagerly before
            self._seen.distrust(f"it cannot be captured: {exc}")
            return None, step(*inputs)
        capture = Capture.of(step, trace, own, outputs, graph.replay)
        if not self._seen.may_run(capture):
            return None, step(*inputs)
        return capture, capture(inputs)
