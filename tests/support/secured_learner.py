"""Learners with certificates and tokens, and calls of any method by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.support.processes import PATIENCE_S, write_config

from covey.cli.certs import write_credentials
from covey.config import load_config
from covey.run.new_run import new_run
from covey.v1 import actor_service_pb2, population_service_pb2
from covey_server.app import LearnerProcess

SERVICES: Sequence[Any] = (
    actor_service_pb2.DESCRIPTOR.services_by_name["ActorService"],
    population_service_pb2.DESCRIPTOR.services_by_name["PopulationService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
METHODS: Sequence[Any] = [m for s in SERVICES for m in s.methods]

TOKENS = {role: f"{role}-token-0123456789" for role in ("actor", "viewer", "admin")}


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def write_tokens(path: Path, tokens: dict[str, str] = TOKENS) -> Path:
    path.touch(mode=0o600)
    path.write_text("".join(f"{role} {token}\n" for role, token in tokens.items()))
    return path


def make_certificates(directory: Path, *actors: str) -> Path:
    write_credentials(directory, ["learner.test"], actors)
    return directory


def tls(directory: Path, *, client_ca: bool = False) -> dict[str, str]:
    """The section `learner.tls`."""
    given = {"certificate": str(directory / "server.crt"), "key": str(directory / "server.key")}
    return given | ({"client_ca": str(directory / "ca.crt")} if client_ca else {})


@contextlib.contextmanager
def serving(directory: Path, *, insecure: bool = False, **learner: Any) -> Iterator[LearnerProcess]:
    """A learner with this section `learner`."""
    directory.mkdir(parents=True, exist_ok=True)
    config = load_config(write_config(directory / "config.yaml", learner=learner))
    process = LearnerProcess(config, new_run(config, directory / "runs"), insecure=insecure)
    try:
        process.start()
        yield process
    finally:
        process.stop()


def call(
    channel: grpc.Channel,
    method: MethodDescriptor,
    request: bytes = b"",
    *,
    metadata: Sequence[tuple[str, str]] = (),
) -> grpc.StatusCode:
    """What a call comes to; a stream of answers is left after its first."""
    return attempt(channel, method, request, metadata=metadata)[0]


def attempt(
    channel: grpc.Channel,
    method: MethodDescriptor,
    request: bytes = b"",
    *,
    metadata: Sequence[tuple[str, str]] = (),
) -> tuple[grpc.StatusCode, str]:
    """As `call`, with the sentence."""
    given: Any = {"timeout": PATIENCE_S, "metadata": metadata}
    descriptor: Any = method
    try:
        if not descriptor.server_streaming:
            one: Any = channel.unary_unary(path_of(method))
            one(request, **given)
        else:
            open_stream: Any = channel.stream_stream if descriptor.client_streaming else channel.unary_stream
            sent: Any = iter([request] if request else []) if descriptor.client_streaming else request
            stream = open_stream(path_of(method))(sent, **given)
            next(stream, None)
            stream.cancel()
    except grpc.RpcError as exc:
        assert isinstance(exc, grpc.Call)
        return exc.code(), exc.details() or ""
    return grpc.StatusCode.OK, ""
