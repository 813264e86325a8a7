"""Channels between actors, clients and the learner: options that were measured, addresses, errors, backoff."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator

import grpc

from covey.errors import ConfigError, CoveyError, RefusedError, StorageError, UnreachableError

Options = list[tuple[str, int]]

MAX_MESSAGE_BYTES = 4 << 20
PART_BYTES = 1 << 20
"""Largest frame: bigger fragments go in parts. One big message costs several times the CPU of 1 MiB pieces."""

CHUNK_BYTES = 512 << 10
"""Piece of a streamed policy or member."""

UNARY_DEADLINE_S = 10.0

SERVER_OPTIONS: Options = [
    # On by default: a second learner would bind the same port silently and steal half the actors.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Per connection; further ones queue at the client. An actor has one Work stream and its fetches.
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_allowed_incoming_connections", 512),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.absolute_max_metadata_size", 16 << 10),
    # Default 120 s: an idle raw TCP connection is cut after this.
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
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Connections of this process are its own: another channel's backoff does not hold this one up.
    ("grpc.use_local_subchannel_pool", 1),
]

_HOST = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+")


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT" or "[IPV6]:PORT"; port 0 lets a server choose.

    Raises:
        ConfigError: no such form.
    """
    host, _, port = text.rpartition(":")
    if not _HOST.fullmatch(host) or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"address {text!r}: expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:50051")
    return host, int(port)


def connect(address: str) -> grpc.Channel:
    """A channel to a learner; it connects at its first use.

    Raises:
        ConfigError: not an address.
    """
    host, port = parse_address(address)
    return grpc.insecure_channel(f"{host}:{port}", options=CLIENT_OPTIONS)


_REFUSALS: dict[grpc.StatusCode, type[CoveyError]] = {
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: RefusedError,
    grpc.StatusCode.UNAUTHENTICATED: RefusedError,
    grpc.StatusCode.NOT_FOUND: RefusedError,
    grpc.StatusCode.ALREADY_EXISTS: RefusedError,
    grpc.StatusCode.OUT_OF_RANGE: RefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: StorageError,
}


def translate(exc: grpc.RpcError, address: str, *, invalid_argument: type[CoveyError] = ConfigError) -> CoveyError:
    """The covey error that a failed call stands for.

    Args:
        exc: What the call raised.
        address: Of the learner, for the sentence.
        invalid_argument: What INVALID_ARGUMENT means for this call: for Join it is the spaces.
    """
    code = exc.code() if isinstance(exc, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = (exc.details() if isinstance(exc, grpc.Call) else None) or "no details"
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return RefusedError(
            f"learner {address}: does not know this call ({details}); is a covey learner listening there?"
        )
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return invalid_argument(f"learner {address}: {details}")
    if code in _REFUSALS:
        return _REFUSALS[code](f"learner {address}: {details}")
    return UnreachableError(f"learner {address}: does not answer ({code.name}: {details}); check that it runs there")


def backoff(
    first_s: float = 0.5,
    longest_s: float = 5.0,
    *,
    rng: random.Random | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[float]:
    """Sleep before every step but the first: U(0, min(longest, first * 2^k)) ("full jitter"); yields what was slept.

    Full jitter spreads actors that lost their learner at one moment evenly over its return.
    """
    rng = rng or random.Random()
    yield 0.0
    limit = first_s
    while True:
        pause = rng.uniform(0.0, limit)
        sleep(pause)
        yield pause
        limit = min(longest_s, limit * 2)
