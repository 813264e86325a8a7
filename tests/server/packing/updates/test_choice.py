"""`learner.updates`, held against this torch and this machine."""

from __future__ import annotations

import pytest
import torch

from covey.config import Updates
from covey.config.encoder_choice import encoder_of
from covey.config.network import EncoderConfig
from covey.errors import ConfigError
from covey.networks import MLP, Input, NetworkSpec
from covey.spaces import Box, Space
from covey_server.packing.updates import backend_for, choice, private_torch
from covey_server.packing.updates.cuda_graph import CudaGraphs
from covey_server.packing.updates.eager import Eager
from covey_server.packing.updates.private_torch import Private
from covey_server.packing.updates.recorded import Recorded

CPU = torch.device("cpu")


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that has given up one of its private names."""

    def find() -> None:
        raise AttributeError(name)

    lacking = (Private(name, "nowhere", find),)
    for table in ("ALWAYS", "CAPTURING", "RECORDING", "COMPILING"):
        if name in {private.name for private in getattr(private_torch, table)}:
            monkeypatch.setattr(choice, table, lacking)


def test_this_torch_has_all_that_is_used_of_it() -> None:
    tables = (private_torch.ALWAYS, private_torch.CAPTURING, private_torch.RECORDING, private_torch.COMPILING)
    assert [private_torch.missing(table) for table in tables] == [()] * 4


@pytest.mark.parametrize(("device", "kind"), [("cpu", Recorded), ("meta", Eager)])
def test_auto_records_on_a_cpu_and_is_eager_where_there_is_nothing_else(device: str, kind: type) -> None:
    assert type(backend_for("auto", torch.device(device))) is kind


@pytest.mark.parametrize(("deterministic", "kind"), [(False, CudaGraphs), (True, Eager)])
def test_auto_on_cuda_captures_graphs_unless_the_run_is_deterministic(
    deterministic: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    assert type(backend_for("auto", torch.device("cuda"))) is kind
    assert type(backend_for("auto", CPU)) is Recorded


@pytest.mark.parametrize(
    ("updates", "lacking", "words"),
    [
        ("graph", None, ["learner.updates", "'graph'", "'cpu'", "CUDA", "write auto"]),
        ("recorded", "torch.Tag.pointwise", ["'recorded'", "torch.Tag.pointwise", torch.__version__, "write eager"]),
        ("eager", "torch._fused_adam_", ["torch._fused_adam_", torch.__version__, "install a torch"]),
    ],
)
def test_updates_that_cannot_be_are_refused_with_a_sentence(
    updates: Updates, lacking: str | None, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking:
        without(lacking, monkeypatch)
    with pytest.raises(ConfigError) as refused:
        backend_for(updates, CPU)
    assert all(word in str(refused.value) for word in words), str(refused.value)


@pytest.mark.parametrize("compiler", ["no-such-compiler", "/nowhere/c++", ""])
def test_compiled_without_a_compiler_is_recorded_with_one_warning(
    compiler: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    choice._say_uncompiled.cache_clear()
    monkeypatch.setenv("CXX", compiler)
    assert [type(backend_for("compiled", CPU)) for _ in range(3)] == [Recorded] * 3  # a generation each
    (warning,) = caplog.messages
    assert f"found no C++ compiler {compiler!r}; install one, or name it in the environment variable CXX" in warning


def test_auto_without_a_private_name_is_eager_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without("OpOverload.tags", monkeypatch)
    for _ in range(2):
        assert type(backend_for("auto", CPU)) is Eager
    (text,) = caplog.messages
    assert f"torch {torch.__version__} is without OpOverload.tags" in text


def test_networks_whose_time_is_not_that_of_calls_are_updated_eagerly() -> None:
    def network(seen: Space) -> NetworkSpec:
        width = seen.width
        encoder = encoder_of(EncoderConfig(), seen, "network", "agent 'a'")
        return NetworkSpec(inputs=(Input("observation", width, encoder),), head=MLP(hidden_size=(64,)), outputs=5)

    def pixels(side: int) -> Box:
        return Box("uint8", (side, side, 3), (0.0,) * 3 * side**2, (255.0,) * 3 * side**2)

    vector = network(Box("float32", (18,), (-1.0,) * 18, (1.0,) * 18))
    for few in ([vector], [vector] * 64, [network(pixels(10))]):
        assert type(backend_for("auto", CPU, few)) is Recorded
    for large in ([vector] * 1000, [vector, network(pixels(84))]):
        assert type(backend_for("auto", CPU, large)) is Eager
    assert type(backend_for("recorded", CPU, [network(pixels(84))])) is Recorded
