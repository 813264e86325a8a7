"""CUDA graphs, as far as a CPU shows them: what is copied in and read out, and what follows when a capture fails."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from covey_server.packing.updates import cuda_graph
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


CAPTURES: list[dict[str, object]] = []
"""The keyword arguments of each call of the stand-in for `torch.cuda.graph`, in order."""


@contextmanager
def capturing(graph: Graph, pool: object, stream: object, **how: object) -> Iterator[None]:
    CAPTURES.append({"pool": pool, "stream": stream, **how})
    trace = Trace()
    with trace:
        yield
    graph.calls = [call_of(operation, lambda x: x) for operation in trace.operations]


STREAMS: list[str] = []
"""Which streams the thread was put on, and when it was brought back."""


@contextmanager
def restoring(stream: str) -> Iterator[None]:
    STREAMS.append(stream)
    try:
        yield
    finally:
        STREAMS.append("back")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> CudaGraphs:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the thread's on {device}")
    monkeypatch.setattr(torch.cuda, "stream", restoring)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"for captures on {device}")
    monkeypatch.setattr(cuda_graph, "_stream", functools.cache(cuda_graph._stream.__wrapped__))
    CAPTURES.clear()
    STREAMS[:] = []
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
    assert calls[0] == 5  # eagerly; eagerly and captured; and compared at the 1st and the 4th of 7 runs
    assert where[3] == where[4] == where[6] == where[7] == where[8]


def test_a_step_that_cannot_be_captured_is_run_eagerly(
    graphs: CudaGraphs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def refusing(graph: Graph, *how: object, **named: object) -> Iterator[None]:
        yield
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", refusing)
    for i in range(5):
        (y,) = graphs.run("key", lambda x: [x * 2], [torch.full((2,), float(i))])
        assert y.tolist() == [2 * i, 2 * i]
    (text,) = caplog.messages
    assert "stream is capturing" in text and torch.__version__ in text
    assert STREAMS == ["the thread's on cpu", "back"]  # as a refused capture leaves the thread on the captures' stream


def test_a_capture_disturbs_no_other_thread_and_is_made_on_the_device_of_the_inputs(graphs: CudaGraphs) -> None:
    for key in ("one", "other"):
        for _ in range(2):
            graphs.run(key, lambda x: [x * 2], [torch.zeros(2)])
    asked = {"pool": (0, 1), "stream": "for captures on cpu", "capture_error_mode": "thread_local"}
    assert asked == CAPTURES[0] == CAPTURES[1] and len(CAPTURES) == 2
    assert STREAMS == ["the thread's on cpu", "back"] * 2


def test_a_step_has_run_before_its_capture_so_that_what_it_keeps_on_the_device_is_there(graphs: CudaGraphs) -> None:
    kept: dict[str, Tensor] = {}
    made: list[int] = []

    def step(x: Tensor) -> Sequence[Tensor]:
        if "index" not in kept:
            made.append(len(CAPTURES))
            kept["index"] = torch.tensor([1, 0])
        return [x.index_select(0, kept["index"])]

    for i in range(5):
        (y,) = graphs.run("key", step, [torch.tensor([i, i + 1])])
        assert y.tolist() == [i + 1, i]
        if i == 0:
            kept.clear()  # as a cache that is full forgets
    assert made == [0, 0] and len(CAPTURES) == 1
