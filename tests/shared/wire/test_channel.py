"""Addresses, errors of calls as sentences, and backoff."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import pytest

from covey.errors import ConfigError, RefusedError, SpaceError, StorageError, UnreachableError
from covey.wire.channel import backoff, connect, parse_address, translate


def test_addresses() -> None:
    assert parse_address("127.0.0.1:50051") == ("127.0.0.1", 50051)
    assert parse_address("learner.example:0") == ("learner.example", 0)
    assert parse_address("[::1]:7") == ("[::1]", 7)
    for bad in ("", "host", "host:", ":1", "host:x", "host:70000", "a b:1", "::1:5", "http://x:1", "host:-1", "host:²"):
        with pytest.raises(ConfigError, match="expected HOST:PORT"):
            parse_address(bad)


def failed_call(code: grpc.StatusCode) -> grpc.RpcError:
    """What a call raises that a real server ends with this status."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    abort: Any = grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(code, "because"))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": abort}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        return call(f"127.0.0.1:{port}", "/test.Service/Call")
    finally:
        server.stop(None)


def call(address: str, method: str) -> grpc.RpcError:
    with connect(address) as channel:
        multicallable: Callable[..., bytes] = channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as caught:
            multicallable(b"", timeout=5)
    return caught.value


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnreachableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, UnreachableError),
        (grpc.StatusCode.FAILED_PRECONDITION, RefusedError),
        (grpc.StatusCode.NOT_FOUND, RefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, RefusedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StorageError),
        (grpc.StatusCode.INVALID_ARGUMENT, SpaceError),
    ],
)
def test_statuses_become_errors_of_ours(code: grpc.StatusCode, error: type[Exception]) -> None:
    raised = translate(failed_call(code), "h:1", invalid_argument=SpaceError)
    assert type(raised) is error and str(raised).startswith("learner h:1") and "because" in str(raised)


def test_a_real_refused_connection_is_unreachable() -> None:
    raised = call("127.0.0.1:1", "/covey.v1.ActorService/Describe")
    error = translate(raised, "127.0.0.1:1")
    assert isinstance(error, UnreachableError)
    assert "(UNAVAILABLE: Connection refused)" in str(error), "the last of gRPC's reasons, without all addresses"


def test_backoff_is_full_jitter_under_a_doubling_limit() -> None:
    slept: list[float] = []
    limits = [0.5, 1, 2, 4, 5, 5]
    rounds = [list(itertools.islice(backoff(rng=random.Random(seed), sleep=slept.append), 7)) for seed in range(300)]
    for pauses in rounds:
        assert pauses[0] == 0
        assert all(0 <= pause <= limit for pause, limit in zip(pauses[1:], limits, strict=True))
    for i, limit in enumerate(limits):
        drawn = [pauses[i + 1] for pauses in rounds]
        assert sum(drawn) / len(drawn) == pytest.approx(limit / 2, rel=0.15)
        assert min(drawn) < 0.1 * limit and max(drawn) > 0.9 * limit
    assert slept == [pause for pauses in rounds for pause in pauses[1:]]
