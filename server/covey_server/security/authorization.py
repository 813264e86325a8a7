"""Authorization of gRPC calls: which roles may call which method, and which actor names a certificate allows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc

from covey.errors import CoveyError, ForbiddenError, UnauthenticatedError
from covey_server.security.guard import Context
from covey_server.security.rate_limit import RateLimit
from covey_server.security.tokens import Tokens

ACTORS, READERS, ADMINS, ANY_ROLE = {"actor"}, {"viewer", "admin"}, {"admin"}, {"actor", "viewer", "admin"}

RULES: Mapping[str, Mapping[str, set[str] | None]] = {
    "covey.v1.ActorService": {"Describe": ACTORS, "Join": ACTORS, "Work": ACTORS, "FetchPolicy": ACTORS},
    "covey.v1.PopulationService": {
        "GetStatus": READERS,
        "WatchStatus": READERS,
        "ListMembers": READERS,
        "GetMember": READERS,
        "GetLineage": READERS,
        "ListActors": READERS,
        "DownloadMember": READERS,
        "Pause": ADMINS,
        "Resume": ADMINS,
        "Checkpoint": ADMINS,
        "DrainActor": ADMINS,
        "Shutdown": ADMINS,
    },
    # Load balancers and supervisors have no token, so `Check` needs none. `Watch` does: without one, anybody could hold
    # streams open.
    "grpc.health.v1.Health": {"Check": None, "List": READERS, "Watch": READERS},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": ANY_ROLE},
}
"""Roles that may call each gRPC method, by service; None: a method for everybody, even without a token.

A method that is missing here is refused to everybody.
"""

Count = Callable[[str], None]
"""Function that adds one to the run's counter of this name."""


def roles_of(method: str) -> set[str] | None:
    """Roles that may call a method, given as "/service/Method"; None: everybody, even without a token."""
    _, service, name = method.split("/")
    return RULES.get(service, {}).get(name, set())


class Authorization(grpc.aio.ServerInterceptor):
    """gRPC interceptor that refuses a call unless its token has a role that may call the method.

    It decides before the request is parsed, and again during a response stream whenever tokens have changed. A host
    that was refused too often hears neither yes nor no for a while, so that nobody can try many tokens.

    Args:
        tokens: Known tokens and their roles; None: every call passes.
        count: Called with "unauthenticated" or "forbidden" for each refused call.
        limit: Limits how often a host may be refused.
    """

    def __init__(self, tokens: Tokens | None, count: Count, limit: RateLimit) -> None:
        self._tokens = tokens
        self._count = count
        self._limit = limit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's own handler, or one that refuses the call; gRPC calls it for each call."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        # Without a handler, gRPC itself answers that the method does not exist.
        if handler is None or self._tokens is None or roles_of(method) is None:
            return handler  # type: ignore[no-any-return]
        tokens, given = self._tokens, _bearer_token(handler_call_details.invocation_metadata)
        refusal = self._refusal(tokens, method, given)
        if refusal is not None:
            return _refusing_handler(handler, refusal, self._limit)
        if not handler.response_streaming:
            return _with_behaviour(handler, _unlimited_unary(handler, self._limit))
        # A stream may last for days, in which its token may be revoked.
        rechecked = _rechecked_stream(handler, tokens, lambda: self._refusal(tokens, method, given), self._limit)
        return _with_behaviour(handler, rechecked)

    def _refusal(self, tokens: Tokens, method: str, given: str | None) -> CoveyError | None:
        """The error with which a call is refused and counted; None if its token may call the method."""
        if given is None:
            self._count("unauthenticated")
            return UnauthenticatedError("no token came with the call; give --token-file FILE, or set COVEY_TOKEN")
        role = tokens.role(given)
        if role is None:
            self._count("unauthenticated")
            return UnauthenticatedError("the token is not one of this learner's; ask its owner for a valid one")
        allowed = roles_of(method) or set()
        if role not in allowed:
            self._count("forbidden")
            name = method.rpartition("/")[2]
            return ForbiddenError(
                f"a token of role {role} may not call {name}, expected {' or '.join(sorted(allowed)) or 'nobody'}"
            )
        return None


def check_name(context: Context, actor_id: str) -> None:
    """Check the name that an actor joins under against the client certificate of its connection, if it has one.

    Args:
        context: The call, with the connection's certificate.
        actor_id: Name that the actor joins under.

    Raises:
        ForbiddenError: the name is neither the certificate's common name NAME nor begins with "NAME-".
    """
    names = list(context.auth_context().get("x509_common_name", ()))
    if not names:
        return
    name = names[0].decode("utf-8", "replace")
    if actor_id != name and not actor_id.startswith(f"{name}-"):
        raise ForbiddenError(
            f"actor {actor_id!r}: its certificate is {name!r}'s, expected that name; start it with --name {name}"
        )


def _bearer_token(metadata: Any) -> str | None:
    """The token in a call's metadata ("authorization: Bearer TOKEN"); None if there is none, or more than one."""
    values = [value for key, value in metadata or () if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


async def _abort(context: Context, refusal: CoveyError) -> NoReturn:
    """End a call with the gRPC status and the text of an error."""
    await context.abort(grpc.StatusCode[refusal.status], str(refusal))


async def _check_limit(limit: RateLimit, context: Context, refusals: float) -> None:
    """Count refusals of the caller's host, or with 0 only ask; ends the call if there were too many."""
    try:
        limit.check(context.peer(), refusals)
    except CoveyError as exc:
        await _abort(context, exc)


def _refusing_handler(handler: Any, refusal: CoveyError, limit: RateLimit) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that ends every call with an error and reads no request.

    gRPC requires it to be of the replaced handler's kind: unary or streaming on either side.
    """

    async def one(_: Any, context: Context) -> Any:
        await _check_limit(limit, context, 1)
        await _abort(context, refusal)

    async def many(_: Any, context: Context) -> AsyncIterator[Any]:
        await _check_limit(limit, context, 1)
        await _abort(context, refusal)
        yield

    if handler.request_streaming:
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(many)
        return grpc.stream_unary_rpc_method_handler(one)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(many)
    return grpc.unary_unary_rpc_method_handler(one)


def _unlimited_unary(handler: Any, limit: RateLimit) -> Callable[[Any, Context], Awaitable[Any]]:
    """The function behind a method with a single response, for hosts that were not refused too often."""

    async def asked(request: Any, context: Context) -> Any:
        await _check_limit(limit, context, 0)
        return await handler.unary_unary(request, context)

    return asked


def _rechecked_stream(
    handler: Any, tokens: Tokens, refusal: Callable[[], CoveyError | None], limit: RateLimit
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    """The function behind a streaming method, wrapped so that the stream ends once its token is no longer valid.

    Args:
        handler: The method's handler.
        tokens: Known tokens; their version tells whether they have changed.
        refusal: Checks the call's token again; returns the error if it may no longer call the method.
        limit: Limits how often a host may be refused.
    """
    behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream

    async def watched(request: Any, context: Context) -> AsyncIterator[Any]:
        await _check_limit(limit, context, 0)
        version = tokens.version
        async with contextlib.aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                tokens.refresh()
                if tokens.version != version:
                    version = tokens.version
                    error = refusal()
                    if error is not None:
                        await _abort(context, error)
                yield response

    return watched


def _with_behaviour(handler: Any, behaviour: Callable[[Any, Context], Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """A copy of a method's handler that calls another function."""
    make: Any = grpc.unary_unary_rpc_method_handler
    if handler.response_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
    return make(behaviour, handler.request_deserializer, handler.response_serializer)  # type: ignore[no-any-return]
