"""CUDA graphs, as far as a CPU shows them: what is copied in and read out, and what follows when a capture fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from covey_server.packing.updates.cuda_graph import CudaGraphs
from covey_server.packing.updates.operators import call_of
from covey_server.packing.updates.trace import Trace
from covey_server.packing.updates.verification import Verification


class Graph:
    """What a CUDA graph is: the operations of a capture, run again on the same memory."""

    calls: Sequence[Callable[[], Any]] = ()

    def replay(self) -> None:
        for call in self.calls:
            call()


@contextmanager
def capturing(graph: Graph, pool: object) -> Iterator[None]:
    trace = Trace()
    with trace:
        yield
    graph.calls = [call_of(operation, lambda x: x) for operation in trace.operations]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> CudaGraphs:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    return CudaGraphs(Verification())


def test_inputs_are_copied_in_and_results_are_read_out(graphs: CudaGraphs) -> None:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    calls = [0]

    def step(x: Tensor) -> Sequence[Tensor]:
        calls[0] += 1
        return [torch.tanh(x @ weight), x + 1]

    where = []
    for i in range(9):
        x = torch.full((3, 2), i / 10)
        results = graphs.run("key", step, [x])
        for y, z in zip(results, (torch.tanh(x @ weight), x + 1), strict=True):
            torch.testing.assert_close(y, z)
        where.append([y.data_ptr() for y in results])
    assert calls[0] == 4  # eagerly, captured; and compared at the 1st and the 4th of 7 runs
    assert where[3] == where[4] == where[6] == where[7] == where[8]


def test_a_step_that_cannot_be_captured_is_run_eagerly(
    graphs: CudaGraphs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def refusing(graph: Graph, pool: object) -> Iterator[None]:
        yield
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refusing)
    for i in range(5):
        (y,) = graphs.run("key", lambda x: [x * 2], [torch.full((2,), float(i))])
        assert y.tolist() == [2 * i, 2 * i]
    (text,) = caplog.messages
    assert "stream is capturing" in text and torch.__version__ in text
