"""gRPC channels to the learner: options, addresses, errors as sentences, and pauses between attempts."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from covey.errors import (
    ConfigError,
    CoveyError,
    ForbiddenError,
    RefusedError,
    StorageError,
    UnauthenticatedError,
    UnreachableError,
)
from covey.wire.credentials import Credentials, is_loopback
from covey.wire.limits import MAX_MESSAGE_BYTES

Options = list[tuple[str, int]]

UNARY_DEADLINE_S = 10.0
"""Seconds within which a learner answers a call that has one answer."""

SERVER_OPTIONS: Options = [
    # On by default: a second learner would bind the same port silently and steal half the actors.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Per connection; further ones queue at the client. An actor has one Work stream and its fetches.
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_allowed_incoming_connections", 512),
    # A connection without calls is closed: it takes a place. An actor's has its Work stream all the time.
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    # A TCP connection that does not speak is cut after this; the default is 120 s.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # keepalive_timeout does not bound the wait for a ping's answer; this does, and its default is a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Must be below the client's keepalive_time, or the server hangs up on its pings ("too many pings").
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    # Together a hard cap of 1 MiB unread per stream; lookahead alone changes nothing while the probe runs.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),
]

CLIENT_OPTIONS: Options = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # 0: pings are not throttled while an actor waits for orders.
    ("grpc.http2.max_pings_without_data", 0),
    # The default maximum is two minutes: an actor would stand idle long after the learner is back.
    ("grpc.initial_reconnect_backoff_ms", 500),
    # How long an attempt may take, in spite of its name: over TLS that is several round trips.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Channels share no connections: another channel's backoff would hold this one up.
    ("grpc.use_local_subchannel_pool", 1),
]

ANONYMOUS = Credentials()

_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+")


def parse_address(text: str) -> tuple[str, int]:
    """Split "HOST:PORT" or "[IPV6]:PORT" into host and port; port 0 lets a server choose.

    Raises:
        ConfigError: the text has neither form, or its port is above 65535.
    """
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ConfigError(f"address {text!r}: expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:50051")
    return host, int(port)


def connect(address: str, credentials: Credentials = ANONYMOUS) -> grpc.Channel:
    """Make a gRPC channel to a learner; it connects when it is first used.

    Args:
        address: HOST:PORT.
        credentials: With a CA the channel uses TLS; a token goes with every call.

    Raises:
        ConfigError: not an address, or a token would travel over a network in plain text.
    """
    host, port = parse_address(address)
    target, token = f"{host}:{port}", credentials.token
    if credentials.ca is not None:
        tls = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
        if token is not None:
            tls = grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(token))
        return grpc.secure_channel(target, tls, options=CLIENT_OPTIONS)
    if not is_loopback(host):
        if token is not None:
            raise ConfigError(
                f"learner {target}: the token would travel there in plain text, expected TLS; give --ca FILE, or leave "
                "out the token"
            )
        return grpc.insecure_channel(target, options=CLIENT_OPTIONS)
    # No proxy, even if the environment variables name one: what goes to loopback stays on this machine.
    channel = grpc.insecure_channel(target, options=[*CLIENT_OPTIONS, ("grpc.enable_http_proxy", 0)])
    # gRPC sends call credentials over encrypted channels only, so an interceptor adds the token here.
    return channel if token is None else grpc.intercept_channel(channel, _Bearer(token))


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    """The details of a gRPC call, with changed metadata; gRPC's own class cannot be copied with other values."""

    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str | bytes], ...] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds an authorisation token to the metadata of every gRPC call."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    def _details(self, details: grpc.ClientCallDetails) -> grpc.ClientCallDetails:
        metadata = (*(details.metadata or ()), self._header)
        return _Details(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._details(client_call_details), request)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(self._details(client_call_details), request_iterator)


_REFUSALS: dict[grpc.StatusCode, type[CoveyError]] = {
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.NOT_FOUND: RefusedError,
    grpc.StatusCode.ALREADY_EXISTS: RefusedError,
    grpc.StatusCode.OUT_OF_RANGE: RefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: StorageError,
}

_HANDSHAKES = {
    "WRONG_VERSION_NUMBER": "{learner} does not speak TLS; leave out --ca (COVEY_CA), or start the learner with --tls",
    "CERTIFICATE_VERIFY_FAILED": "{learner}: the CA of --ca (COVEY_CA) does not vouch for its certificate ({reason}); "
    "give the ca.crt that was made with it, or renew it",
    "Hostname Verification": "{learner}: its certificate is for another name; make one with `covey certs init --host "
    "NAME`, or use a name that it has",
    "Socket closed": "{learner} closed the connection; give --ca FILE if it serves TLS, --cert and --key if it asks "
    "for client certificates, or try again later if all its connections are taken",
}
"""By a piece of gRPC's text about a failed TLS handshake: what is wrong, and what a person should do."""


def translate(exc: grpc.RpcError, address: str, *, invalid_argument: type[CoveyError] = ConfigError) -> CoveyError:
    """Convert gRPC's error for a failed call to covey's, with a sentence that says what to do.

    Args:
        exc: What the call raised.
        address: The learner's, for the sentence.
        invalid_argument: The error that INVALID_ARGUMENT means for this call: for Join it is a SpaceError.
    """
    code = exc.code() if isinstance(exc, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = (exc.details() if isinstance(exc, grpc.Call) else None) or "no details"
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return RefusedError(
            f"learner {address} does not know this call ({details}); is a covey learner listening there?"
        )
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return invalid_argument(f"learner {address}: {details}")
    if code in _REFUSALS:
        return _REFUSALS[code](f"learner {address}: {details}")
    for sign, sentence in _HANDSHAKES.items():
        if sign in details:
            reason = details.partition(f"{sign}: ")[2].partition(":")[0]
            return UnreachableError(sentence.format(learner=f"learner {address}", reason=reason))
    # "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: ...: Connection refused"
    reason = details.rpartition("last error: ")[2].rpartition(": ")[2] if "last error: " in details else details
    return UnreachableError(f"learner {address} does not answer ({code.name}: {reason}); check that it runs there")


def backoff(
    first_s: float = 0.5,
    longest_s: float = 5.0,
    *,
    rng: random.Random | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[float]:
    """Yield at once, then again and again after a pause that grows; yields the seconds slept.

    Pause k is drawn from U(0, min(longest_s, first_s * 2^k)). This "full jitter" spreads actors that lost their learner
    at one moment evenly over time.
    """
    rng = rng or random.Random()
    yield 0.0
    limit = first_s
    while True:
        pause = rng.uniform(0.0, limit)
        sleep(pause)
        yield pause
        limit = min(longest_s, limit * 2)
